"""What the last run left for this one: rows in the spool, what should run, known gaps, jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import structlog

from klineagent.config.model import Config
from klineagent.core.errors import ConfigError, SpoolError, StartError, StateError, StateUnreadable
from klineagent.exchange.venues import VENUES, Venue
from klineagent.jobs.jobs import Jobs
from klineagent.series.backfill.adoption import adopt_state
from klineagent.series.backfill.gap_file import GapSaver
from klineagent.series.desired.state_file import LOCK, StateSaver, open_state
from klineagent.storage.spool.adoption import adopt_spools
from klineagent.storage.spool.disk import Disk, Folder
from klineagent.storage.spool.spool import Spool, open_spool

log = structlog.get_logger()


@asynccontextmanager
async def open_last_spool(config: Config, disk: Disk | None) -> AsyncIterator[Spool | None]:
    """Open the spool on `disk`, or in the configured folder; None without one.

    Raises:
        StartError: it cannot be used.
    """
    adopt = None
    if disk is None and (path := config.spool_folder) is not None:
        disk = folder = Folder(path)
        adopt = partial(adopt_spools, config.earlier_spools, folder)
    if disk is None:
        yield None
        return
    async with AsyncExitStack() as opened:
        try:
            spool = await opened.enter_async_context(
                open_spool(disk, limit_bytes=config.spool_limit, adopt=adopt)
            )
        except SpoolError as error:
            raise StartError(f"{error}; name another folder with --spool, or none") from error
        if not spool.is_empty:
            log.info("spool_found", segments=spool.segments, rows=spool.rows)
        yield spool


@asynccontextmanager
async def open_last_state(config: Config, disk: Disk | None) -> AsyncIterator[StateSaver]:
    """Open the state file on `disk`, or the configured one, and load what was saved last.

    Raises:
        ConfigError: it cannot be read.
        StartError: it cannot be used.
    """
    name = "subscriptions.json"
    if disk is None and (file := config.state_file) is not None:
        disk, name = Folder(file.parent, f"{file.name}{LOCK}"), file.name
    if disk is None:
        yield StateSaver(None)
        return
    async with AsyncExitStack() as opened:
        try:
            state = await opened.enter_async_context(open_state(disk, name))
            saver = StateSaver(state, await state.load())
        except StateUnreadable as error:
            raise ConfigError(
                f"{error}; move it away, or name another file with --state"
            ) from error
        except StateError as error:
            raise StartError(f"{error}; name another file with --state, or none") from error
        yield saver


async def load_last_jobs(jobs: Jobs) -> None:
    """Load the jobs that the last run has not ended.

    Raises:
        ConfigError: the file cannot be read.
    """
    try:
        await jobs.load()
    except StateUnreadable as error:
        raise ConfigError(f"{error}; move it away, or name another file with --state") from error


async def load_last_gaps(config: Config, saver: StateSaver, gaps: GapSaver) -> None:
    """Load the gaps that the last run knew, and adopt what earlier agents left.

    Raises:
        ConfigError: a file cannot be read.
    """
    try:
        await gaps.load()
    except StateUnreadable as error:
        raise ConfigError(f"{error}; move it away, or name another file with --state") from error
    for venue, old in config.earlier_states.items():
        await adopt_state(old, venue, saver, gaps)


def venues_at_start(config: Config, saver: StateSaver) -> list[Venue]:
    """List the venues to open: the default one, and all from which something is wanted."""
    saved = [VENUES[name] for name in saver.venues]
    return [*dict.fromkeys([*config.symbols_by_venue, *saved])]
