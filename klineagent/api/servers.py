"""The apps of all servers, put together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import trio
from attrs import frozen
from hypercorn.typing import ASGIFramework
from quart_trio import QuartTrio

from klineagent.api.access import command_guard, read_guard, status_guard
from klineagent.api.dashboard.covered_days import add_days_route
from klineagent.api.dashboard.files import add_page_routes
from klineagent.api.dashboard.journal import Journal
from klineagent.api.dashboard.overview import OverviewAtOnce, OverviewSource, add_overview_route
from klineagent.api.guard import Guard
from klineagent.api.reading.candles import CANDLES, DOCUMENT_WITHIN_S
from klineagent.api.reading.newest import TailAtOnce
from klineagent.api.reading.server import ReadApi, Reading, open_read_api, open_reading
from klineagent.api.routes.commands import command_app
from klineagent.api.routes.health import add_health_routes, status_app
from klineagent.api.routes.jobs import add_job_routes
from klineagent.api.routes.metrics import add_metrics_route
from klineagent.api.routes.reports import add_answer_routes
from klineagent.api.routes.subscriptions import add_subscription_routes
from klineagent.api.server.middleware import RequestDeadline, RequestPacer
from klineagent.api.server.shortcuts import Shortcuts, first_of
from klineagent.api.snapshots import add_snapshot_routes
from klineagent.api.timings import Timings
from klineagent.bus import Bus
from klineagent.config.model import Config
from klineagent.exchange.venues import Venue
from klineagent.jobs.imported_days import ImportedDays
from klineagent.jobs.jobs import Jobs
from klineagent.process.recent_lines import RecentLines
from klineagent.reading.streams.hub import StreamCounts
from klineagent.series.venues import Venues
from klineagent.storage.writing.writer import Writer


@frozen(kw_only=True)
class Guards:
    """The access rule of each server."""

    command: Guard
    status: Guard
    read: Guard

    @classmethod
    def of(cls, config: Config) -> Guards:
        """Make the guards.

        Raises:
            ConfigError: other machines could command or read without a token.
        """
        return cls(
            command=command_guard(config), read=read_guard(config), status=status_guard(config)
        )


@frozen(kw_only=True)
class Apis:
    """What each server serves."""

    command: QuartTrio
    served_command: ASGIFramework
    """The same with its bounds."""
    command_shortcuts: Shortcuts
    status: QuartTrio
    served_status: ASGIFramework
    read: ReadApi | None
    """None if nothing is read on an address of its own."""


@asynccontextmanager
async def open_apis(
    guards: Guards,
    *,
    config: Config,
    venues: Venues,
    writer: Writer,
    jobs: Jobs,
    imported: ImportedDays,
    bus: Bus,
    timings: Timings,
    lines: RecentLines,
    forwards: frozenset[Venue],
    with_reads: bool,
) -> AsyncIterator[Apis]:
    """Open what the servers answer by, as long as the block lasts."""
    stream_counts = StreamCounts()
    async with (
        open_reading(venues=venues, writer=writer, bus=bus, forwards=forwards) as reading,
        trio.open_nursery() as background,
        AsyncExitStack() as readers,
    ):
        # After the tail: what it notes as readable is there.
        readers.enter_context(bus.subscribed(timings))
        command = command_app(venues, config.intervals, config.venue, guards.command)
        add_subscription_routes(command, venues)
        add_answer_routes(command, venues=venues, writer=writer)
        add_snapshot_routes(command, venues=venues, writer=writer)
        add_job_routes(command, jobs, default=venues.default)
        if writer.store.snapshots is not None:
            background.start_soon(writer.store.snapshots.keep_swept)
        reading.add_routes(command)
        add_page_routes(command)
        journal = Journal(venues=venues, writer=writer, timings=timings, lines=lines)
        background.start_soon(journal.run)
        source = OverviewSource(
            venues=venues,
            writer=writer,
            jobs=jobs,
            timings=timings,
            guard=guards.command,
            journal=journal,
        )
        add_overview_route(command, source)
        add_days_route(command, venues, imported)
        status = status_app(guards.status)
        add_health_routes(status, guards.status, venues=venues, writer=writer)
        add_metrics_route(
            status, venues=venues, writer=writer, jobs=jobs, timings=timings, streams=stream_counts
        )
        read = None
        if with_reads:
            opened = open_read_api(reading, bus=bus, guard=guards.read, counts=stream_counts)
            read = await readers.enter_async_context(opened)
        yield Apis(
            command=command,
            served_command=_bounded(command, reading),
            command_shortcuts=Shortcuts(
                answer=first_of(OverviewAtOnce(source), TailAtOnce(reading.ranges, guards.command))
            ),
            status=status,
            served_status=RequestDeadline(status),
            read=read,
        )
        background.cancel_scope.cancel(reason="nothing is served any more")


def _bounded(command: QuartTrio, reading: Reading) -> ASGIFramework:
    app = reading.bounded(RequestPacer(command))
    return RequestDeadline(app, by_path={CANDLES: DOCUMENT_WITHIN_S})
