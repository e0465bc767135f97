"""Adoption of the state of an agent that recorded another venue for itself."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from pathlib import Path

import structlog
import trio
from attrs import evolve

from klineagent.core.errors import SpoolError, StateError
from klineagent.exchange.venues import Venue
from klineagent.series.backfill.gap_file import GapFile, GapSaver
from klineagent.series.backfill.known_gaps import SavedGaps
from klineagent.series.desired.state_file import LOCK, StateSaver, open_state
from klineagent.storage.spool.disk import Files, Folder

ADOPTED = ".adopted"
"""The suffix that the old files get, after their names."""

log = structlog.get_logger()


async def adopt_state(old: Path, venue: Venue, saver: StateSaver, gaps: GapSaver) -> None:
    """Take over what the state file `old` and its gap file say of `venue`, once.

    What we recorded of the venue before stays; where both say something, we are right. Afterwards
    the old files have other names. Nothing is taken from an agent that runs.
    """
    name = venue.name
    if gaps.file is None or not await trio.Path(old).exists():
        return
    try:
        async with open_state(Folder(old.parent, f"{old.name}{LOCK}"), old.name) as state:
            if (selection := (await state.load()).get(name)) is None:
                return
            beside = GapFile.beside(state, store=gaps.file.store)
            theirs = await beside.load(is_ours=False)
            known = evolve(
                gaps.known,
                venues={**gaps.known.venues, name: _joined(theirs.of(name), gaps.known.of(name))},
            )
            # Renamed last: a process that dies before takes everything over once more.
            await gaps.file.save(known)
            await saver.save_now(name, selection.adding(saver.selection_of(name), None))
            for file in (beside.name, state.name):
                await state.disk.run(partial(_rename, file))
    except (StateError, SpoolError) as error:
        log.warning("state_not_adopted", state=str(old), reason=str(error))
        return
    gaps.known = known
    log.info("state_adopted", state=str(old), kept=old.name + ADOPTED)


def _rename(name: str, files: Files) -> None:
    with suppress(FileNotFoundError):
        files.rename(name, name + ADOPTED)


def _joined(theirs: SavedGaps, ours: SavedGaps) -> SavedGaps:
    """Return what both know; of a series that both recorded, what we do."""
    return SavedGaps({**theirs.gaps, **ours.gaps}, theirs.is_whole and ours.is_whole)
