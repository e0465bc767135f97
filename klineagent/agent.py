"""The composition root: every part of the agent, and the tree its tasks form.

    open_agent
      listeners               both addresses, before anything is touched; who calls waits
      store, spool            their threads, if they have any, live here
      serving nursery         command server, status server: they answer until the last row is in
        writer                outlives everything that publishes; drains within a deadline
          bus                 klines to the writer, and to live readers
            weight pools      a task each: what requests of all venues may spend
            venues            one block each: its REST client and clock, symbols, connections,
                              startup scan, a nursery per subscription (see `open_venue`), and the
                              set that should run, its audit (see `open_venues`)
              background      saving of subscriptions and known gaps, row in `agents`,
                              registration, a log line a minute
              apis            what the servers answer by: tails, streams, documents, figures
                              over time (see `open_apis`)
              jobs            one at a time, at the pace that recording leaves it

Leaving the block ends these from the inside out: intake first, then the drain, then the servers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from functools import partial
from typing import NoReturn

import httpx2
import structlog
import trio
from attrs import frozen
from quart_trio import QuartTrio

from klineagent.api.access import command_tls
from klineagent.api.guard import is_loopback
from klineagent.api.reading.server import open_read_listener
from klineagent.api.server.listen import open_listener, serve_http
from klineagent.api.servers import Guards, open_apis
from klineagent.api.timings import open_timings
from klineagent.bus import Bus
from klineagent.config.loading import check_symbols
from klineagent.config.model import Config
from klineagent.core.address import Bind
from klineagent.core.errors import (
    StartError,
    StoreError,
    StoreUnavailable,
)
from klineagent.core.interval import SECOND_MS
from klineagent.exchange.budget import open_weight_pools
from klineagent.exchange.network import Internet, Network
from klineagent.exchange.stream.dispatcher import FormingTurns
from klineagent.exchange.stream.pool import Pool
from klineagent.exchange.venues import VENUES, Venue
from klineagent.fleet.address import own_address, page_url
from klineagent.fleet.heartbeat import beat
from klineagent.fleet.registration import register
from klineagent.jobs.imported_days import ImportedDays
from klineagent.jobs.jobs import Jobs
from klineagent.jobs.opening import jobs_of
from klineagent.last_run import (
    load_last_gaps,
    load_last_jobs,
    open_last_spool,
    open_last_state,
    venues_at_start,
)
from klineagent.process.recent_lines import open_recent_lines
from klineagent.series.backfill.gap_file import GapFile, GapSaver
from klineagent.series.desired.desired import Desired
from klineagent.series.desired.selection import SeriesSet
from klineagent.series.registry import Places, Registry
from klineagent.series.venue import VenueSettings, open_venue
from klineagent.series.venues import OpenedRegistry, Venues, open_venues
from klineagent.storage.opening import open_store
from klineagent.storage.spool.disk import Disk
from klineagent.storage.store import Store
from klineagent.storage.url import masked
from klineagent.storage.writing.losses import Losses
from klineagent.storage.writing.writer import Writer, open_writer

# How long the start waits for what it can do without: the database.
START_PATIENCE_S = 5
# How long requests under way may take to end, after the last row is in.
HTTP_DRAIN_S = 0.5
TELL_EVERY_S = 60

log = structlog.get_logger()


@frozen(kw_only=True)
class Agent:
    """A running agent."""

    store: Store
    writer: Writer
    bus: Bus
    venues: Venues
    jobs: Jobs
    dashboard: str
    """Where a browser finds the dashboard."""
    command_bind: Bind
    """Where the command server listens; the port is the real one where 0 was asked for."""
    status_bind: Bind
    read_bind: Bind | None
    """Where the read server listens; None without one."""
    command: QuartTrio
    """What the command server serves."""
    status: QuartTrio

    @property
    def registry(self) -> Registry:
        """The subscriptions of the default venue."""
        return self.venues.main.registry

    @property
    def desired(self) -> Desired:
        """The desired set of the default venue."""
        return self.venues.main.desired

    @property
    def pool(self) -> Pool:
        """The connections to the default venue."""
        return self.venues.main.context.pool


@asynccontextmanager
async def open_agent(
    config: Config,
    *,
    network: Network | None = None,
    store: Store | None = None,
    disk: Disk | None = None,
    state: Disk | None = None,
) -> AsyncIterator[Agent]:
    """Run an agent as `config` has it, as long as the block lasts.

    `network` is the way to the exchange, real sockets if not given; `store` is where klines go and
    `disk` where they wait while it is away, those that `config` names if not given; so is `state`,
    which keeps what should run.

    Raises:
        ConfigError: `config` cannot be used.
        StartError: a step of the start failed.
    """
    check_symbols(config)  # who starts an agent in a program has not called `load_config`
    guards, tls = Guards.of(config), command_tls(config)
    network = network or Internet(config.ca_file)
    losses = Losses()
    places = Places(config.max_symbols)
    for venue, symbols in config.symbols_by_venue.items():
        places.reserve(venue.name, len(symbols))
    async with (
        open_recent_lines() as lines,
        open_listener(config.command_bind, "--command-bind") as commands,
        open_listener(config.status_bind, "--status-bind") as statuses,
        open_read_listener(config.read_bind) as reads,
        nullcontext(store) if store else open_store(config.store, config.ca_file) as opened,
        open_last_spool(config, disk) as spool,
        open_last_state(config, state) as saver,
        _open_background() as servers,
        open_timings() as timings,
        open_writer(
            opened,
            flush_interval_s=config.flush_interval_s,
            batch_rows=config.flush_rows,
            capacity_rows=config.buffer_rows,
            drain_timeout_s=config.drain_timeout_s,
            spool=spool,
            keep_updates=config.updates,
            losses=losses,
            acknowledged=timings.acknowledged,
        ) as writer,
    ):
        bus = Bus(writer.klines)
        gaps = GapSaver(GapFile.beside(saver.file, store=opened.label) if saver.file else None)

        def open_registry(venue: Venue, turns: FormingTurns) -> OpenedRegistry:
            return open_venue(
                _venue_settings(config, venue),
                network=network,
                pools=pools,
                store=opened,
                publish=bus.publish,
                room=writer.room,
                known=partial(gaps.known_of, venue.name),
                places=places,
                turns=turns,
                received=timings.received,
            )

        async with (
            open_weight_pools() as pools,
            open_venues(
                config.venue,
                open_registry=open_registry,
                places=places,
                configured=_configured(config),
                saver=saver,
                writer=writer,
                # What is configured, or was wanted before, runs with a warning.
                apart=frozenset(VENUES.values())
                - venues_alike(config)
                - {*venues_at_start(config, saver)},
            ) as venues,
            _open_background() as background,
            AsyncExitStack() as readers,
        ):
            losses.dropped, losses.refused = venues.refetch, venues.set_aside
            timings.watched, timings.now_ms = venues.watched, venues.now_ms
            # Where the working directory is another one, so are these, unless they are named.
            log.info("folders", spool=str(config.spool_folder), state=str(config.state_file))
            if (absence := await _prepare(opened)) is not None:
                background.start_soon(writer.inserter.find, absence)
            # Before anything begins: what it begins with is what the last run knew.
            await load_last_gaps(config, saver, gaps)
            for venue in venues_at_start(config, saver):
                await venues.open(venue)
            imported = ImportedDays()
            background.start_soon(imported.load, opened)
            jobs = jobs_of(
                venues=venues,
                writer=writer,
                network=network,
                archive=config.archive_url,
                is_simulated=_is_simulated(config.rest_url_of(config.venue)),
                state=saver.file,
                days=imported,
            )
            await load_last_jobs(jobs)
            background.start_soon(saver.run)
            background.start_soon(gaps.run, venues.registries, writer)
            serve = partial(serve_http, drain_s=HTTP_DRAIN_S)
            apis = await readers.enter_async_context(
                open_apis(
                    guards,
                    config=config,
                    venues=venues,
                    writer=writer,
                    jobs=jobs,
                    imported=imported,
                    bus=bus,
                    timings=timings,
                    lines=lines,
                    forwards=forwarded_venues(config),
                    with_reads=reads is not None,
                )
            )
            serve_commands = partial(serve, tls=tls, shortcuts=apis.command_shortcuts)
            await servers.start(serve_commands, apis.served_command, commands)
            await servers.start(serve, apis.served_status, statuses)
            log.info("listening", command=str(commands.bind), status=str(statuses.bind))
            if reads is not None and apis.read is not None:
                shortcuts = apis.read.shortcuts
                await servers.start(partial(serve, shortcuts=shortcuts), apis.read.app, reads)
                log.info("readable", read=str(reads.bind))
            own = own_address(config.agent_ip)
            dashboard = page_url(commands.bind, own, is_secure=tls is not None)
            log.info("dashboard", url=dashboard)
            address = Bind(own, commands.bind.port)
            beating = partial(beat, every_s=config.self_update_interval_s)
            background.start_soon(beating, opened, address, venues)
            if config.fleet_manager is not None:
                background.start_soon(register, config.fleet_manager, address)
            background.start_soon(_tell_progress, writer, venues)
            background.start_soon(jobs.run)
            yield Agent(
                store=opened,
                writer=writer,
                bus=bus,
                venues=venues,
                jobs=jobs,
                dashboard=dashboard,
                command_bind=commands.bind,
                status_bind=statuses.bind,
                read_bind=None if reads is None else reads.bind,
                command=apis.command,
                status=apis.status,
            )


def _configured(config: Config) -> Mapping[Venue, SeriesSet]:
    """Return the series that the configuration names."""
    return {
        venue: dict.fromkeys(symbols, venue.intervals & {*config.intervals})
        for venue, symbols in config.symbols_by_venue.items()
    }


def forwarded_venues(config: Config) -> frozenset[Venue]:
    """List the venues to which requests may be passed on: all that are simulated, or all real.

    A program asks for any of them; an agent of a twin must not open one at its real address.
    """
    return venues_alike(config) if config.forward else frozenset()


def venues_alike(config: Config) -> frozenset[Venue]:
    """List the venues that are simulated, or real, as the default one is."""
    side = _is_simulated(config.rest_url_of(config.venue))
    alike = (each for each in VENUES.values() if _is_simulated(config.rest_url_of(each)) == side)
    return frozenset(alike)


def _is_simulated(url: str) -> bool:
    return is_loopback(httpx2.URL(url).host)


def _venue_settings(config: Config, venue: Venue) -> VenueSettings:
    ws_url, rest_url = config.ws_url_of(venue), config.rest_url_of(venue)
    _warn_of_unusual_path(venue, ws_url)
    _warn_of_two_exchanges(ws_url, rest_url)
    _warn_of_two_exchanges(rest_url, config.rest_url_of(config.venue))
    return VenueSettings(
        venue=venue,
        ws_url=ws_url,
        rest_url=rest_url,
        is_simulated=_is_simulated(rest_url),
        conflate_s=0 if config.updates else config.flush_interval_s,
        history=config.history,
        lookback_ms=int(config.lookback_s * SECOND_MS),
        grace_ms=int(config.grace_s * SECOND_MS),
    )


@asynccontextmanager
async def _open_background() -> AsyncIterator[trio.Nursery]:
    """A nursery for tasks that serve the block and end with it."""
    async with trio.open_nursery() as nursery:
        yield nursery
        nursery.cancel_scope.cancel(reason="what was served is done")


async def _prepare(store: Store) -> StoreUnavailable | None:
    """See that the tables are there; give the reason if the database is away."""
    try:
        with trio.fail_after(START_PATIENCE_S):
            await store.prepare()
    except StoreUnavailable as error:
        return error
    except trio.TooSlowError:
        return StoreUnavailable(f"{store.label}: no answer within {START_PATIENCE_S} s")
    except StoreError as error:
        raise StartError(str(error)) from error
    log.info("store_ready", store=store.label)
    return None


async def _tell_progress(writer: Writer, venues: Venues) -> NoReturn:
    """A line a minute: what came in and what was stored since the last, and what waits."""
    received = stored = healed = 0
    while True:
        await trio.sleep(TELL_EVERY_S)
        running = venues.registries()
        received_by_now = sum(each.context.pool.counts.klines for each in running)
        healed_by_now = sum(each.context.counts.healed for each in running)
        log.info(
            "recording",
            streams=venues.count(),
            missing=sum(each.missing() for each in running),
            healed=healed_by_now - healed,
            received=received_by_now - received,
            stored=writer.stored - stored,
            waiting=writer.rows_waiting,
        )
        received, stored, healed = received_by_now, writer.stored, healed_by_now


def _warn_of_unusual_path(venue: Venue, ws_url: str) -> None:
    """A wrong prefix is acknowledged and silent, so it is told before it can be."""
    usual, path = (httpx2.URL(url).path for url in (venue.ws_url, ws_url))
    if path.rstrip("/") != usual.rstrip("/"):
        log.warning(
            "unusual_ws_url",
            ws_url=masked(ws_url),
            hint=f"klines of {venue.name} are streamed under {usual}",
        )


def _warn_of_two_exchanges(url: str, other: str) -> None:
    """Candles of a twin here and of the real exchange would make one table."""
    if _is_simulated(url) != _is_simulated(other):
        log.warning(
            "two_exchanges",
            urls=[masked(url), masked(other)],
            hint="one is on this machine and the other is not; a twin needs all URLs to be given",
        )
