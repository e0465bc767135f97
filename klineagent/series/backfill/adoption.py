"""Adoption of the state of an agent that recorded another venue for itself."""

from __future__ import annotations

from pathlib import Path

import structlog
import trio
from attrs import evolve

from klineagent.core.errors import StateError
from klineagent.exchange.venues import Venue
from klineagent.series.backfill.gap_file import GapFile, GapSaver
from klineagent.series.desired.state_file import LOCK, StateSaver, open_state
from klineagent.storage.spool.disk import Folder

log = structlog.get_logger()


async def adopt_state(old: Path, venue: Venue, saver: StateSaver, gaps: GapSaver) -> None:
    """Take over what the state file `old` and its gap file say of `venue`.

    Only if our own files do not know the venue, which they do from then on; the old files stay as
    they are. Nothing is taken from an agent that runs.
    """
    if gaps.file is None or saver.knows(venue.name) or not await trio.Path(old).exists():
        return
    try:
        async with open_state(Folder(old.parent, f"{old.name}{LOCK}"), old.name) as state:
            selections = await state.load()
            known = await GapFile.beside(state, store=gaps.file.store).load()
    except StateError as error:
        log.warning("state_not_adopted", state=str(old), reason=str(error))
        return
    if (selection := selections.get(venue.name)) is None:
        return
    saver.save(venue.name, selection)
    gaps.known = evolve(gaps.known, venues={**known.venues, **gaps.known.venues})
    log.info("state_adopted", state=str(old))
