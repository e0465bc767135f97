"""Adoption of the state of an agent that recorded another venue for itself."""

from __future__ import annotations

from pathlib import Path

import structlog
import trio
from attrs import evolve

from klineagent.core.errors import StateError
from klineagent.exchange.venues import Venue
from klineagent.series.backfill.gap_file import GapFile, GapSaver
from klineagent.series.backfill.known_gaps import SavedGaps
from klineagent.series.desired.state_file import LOCK, StateSaver, open_state
from klineagent.storage.spool.disk import Folder

log = structlog.get_logger()


async def adopt_state(old: Path, venue: Venue, saver: StateSaver, gaps: GapSaver) -> None:
    """Take over what the state file `old` and its gap file say of `venue`.

    Only if our own files do not know the venue, which they do from then on; the old files stay as
    they are. Nothing is taken from an agent that runs.
    """
    name = venue.name
    if gaps.file is None or saver.knows(name) or not await trio.Path(old).exists():
        return
    try:
        async with open_state(Folder(old.parent, f"{old.name}{LOCK}"), old.name) as state:
            if (selection := (await state.load()).get(name)) is None:
                return
            theirs = await GapFile.beside(state, store=gaps.file.store).load(is_ours=False)
        known = evolve(
            gaps.known,
            venues={**gaps.known.venues, name: _joined(theirs.of(name), gaps.known.of(name))},
        )
        # First: once we know the venue, nobody asks the old files again.
        await gaps.file.save(known)
    except StateError as error:
        log.warning("state_not_adopted", state=str(old), reason=str(error))
        return
    gaps.known = known
    saver.save(name, selection)
    log.info("state_adopted", state=str(old))


def _joined(theirs: SavedGaps, ours: SavedGaps) -> SavedGaps:
    """Return what both know; of a series that both recorded, what we do."""
    return SavedGaps({**theirs.gaps, **ours.gaps}, theirs.is_whole and ours.is_whole)
