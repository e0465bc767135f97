"""The writer and a real database with a bad network between: rows are there, each once."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from itertools import count, product
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
from attrs import define, field
from clickhouse_driver import Client

from klineagent.core.interval import MINUTE_MS, Interval
from klineagent.core.kline import Kline
from klineagent.storage.clickhouse import server as clickhouse
from klineagent.storage.opening import open_store
from klineagent.storage.spool.segment import SUFFIX, decode
from klineagent.storage.store import Batch
from klineagent.storage.writing.writer import Writer, open_writer
from tests.native.fixture import ModernServer, modern_clickhouse
from tests.places import ARCHIVE
from tests.processes import (
    Running,
    exchange_time_ms,
    running_agent,
    running_twin,
    time_passed,
)
from tests.proxy import Proxy, open_proxy
from tests.recorded import check_recorded
from tests.servers import InstalledServer, free_port, installed_clickhouse
from tests.storage.samples import sample

Server = InstalledServer | ModernServer

ROWS = sample().symbol.encode()  # only the rows of an insert hold it
END_OF_STREAM = b"\x05"
WITHIN_S = 30
SPEED = 240
RECORDED_MS = 5 * MINUTE_MS
DOWN_MS = 10 * MINUTE_MS
# Half of these rows close in a dozen minutes. Then they go to disk, whatever the time; and the
# agent has not begun to wait long between its tries when the server is back.
SMALL_MEMORY = ("--buffer-rows", "250", "--flush-rows", "100")

_databases = (f"faults_{number}" for number in count())


@define(eq=False)
class Told:
    """What the log says, as it says it."""

    _events: list[str] = field(factory=list)
    _news: trio.Event = field(factory=trio.Event)

    def __call__(
        self, _: object, __: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        self._events.append(event["event"])
        self._news.set()
        self._news = trio.Event()
        return event

    async def of(self, *names: str) -> None:
        """Wait until it has told of each of `names`, since the last time."""
        while not set(names) <= set(self._events):
            await self._news.wait()
        self._events.clear()


@pytest.fixture
def told() -> Told:
    """The log, listened to."""
    told = Told()
    structlog.configure(processors=[told, *structlog.get_config()["processors"]])
    return told


@pytest.fixture(params=["installed_server", "modern_server"])
def server(request: pytest.FixtureRequest) -> Server:
    """Servers of both ages."""
    found: Server = request.getfixturevalue(request.param)
    return found


@define(eq=False)
class Bench:
    """A writer behind a proxy, and what it was given."""

    proxy: Proxy
    writer: Writer
    sent: list[Kline] = field(factory=list)

    async def send(self, rows: int) -> None:
        """Give the writer that many candles more."""
        first = 1 + len(self.sent)
        klines = [sample(minute) for minute in range(first, first + rows)]
        await self.writer.klines.send(klines)
        self.sent += klines


@asynccontextmanager
async def open_bench(proxy: Proxy, server: Server) -> AsyncIterator[Bench]:
    """A writer whose connection to `server` is sound and idle; it drains when the block ends."""
    url = server.url_of(next(_databases))
    async with open_store(url.replace(f":{server.port}/", f":{proxy.port}/")) as store:
        await store.insert(Batch("first", (sample(0),)))
        async with open_writer(
            store,
            flush_interval_s=0.05,
            batch_rows=1000,
            capacity_rows=100_000,
            drain_timeout_s=WITHIN_S,
        ) as opened:
            bench = Bench(proxy, opened)
            with trio.fail_after(WITHIN_S):
                await trio.lowlevel.checkpoint()
                yield bench
        assert opened.stored == len(bench.sent)
        assert await store.final_klines("usdm", "BTCUSDT", "1m") == [sample(0), *bench.sent]


@asynccontextmanager
async def faulty(server: Server) -> AsyncIterator[Bench]:
    """The same with a proxy of its own."""
    async with open_proxy(server.port) as proxy, open_bench(proxy, server) as bench:
        yield bench


async def test_rows_whose_acknowledgement_is_lost_are_there_once(
    server: Server, told: Told
) -> None:
    """The first insert stored them; the others are known by their token, or replace it."""
    async with faulty(server) as bench:
        with bench.proxy.lost_acks(after=ROWS, ack=END_OF_STREAM, times=3) as lost:
            await bench.send(100)
            await lost.wait()
            await told.of("store_unavailable", "store_back")
        await bench.send(100)


async def test_connections_reset_while_idle_cost_nothing(server: Server) -> None:
    """Whether it is noticed at once or by the next insert, that one gets there."""
    async with faulty(server) as bench:
        for _ in range(3):
            await bench.proxy.reset()
            await bench.send(100)
            await bench.writer.room()


async def test_an_insert_that_is_reset_in_its_midst_is_sent_again(
    server: Server, told: Told
) -> None:
    """A part of the rows that arrived is no rows, and the whole is there afterwards."""
    async with faulty(server) as bench:
        for _ in range(3):
            with bench.proxy.holding(within=ROWS) as held:
                await bench.send(5000)
                await held.wait()
                await bench.proxy.reset()
                await told.of("store_unavailable", "store_back")
        await bench.send(100)


async def test_an_insert_that_nobody_hears_is_given_up_and_sent_again(
    server: Server, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Silence ends at the deadline; what then arrives late is no second insert."""
    async with faulty(server) as bench:
        with monkeypatch.context() as patch, bench.proxy.black_hole() as unheard:
            patch.setattr(clickhouse, "WRITE_WITHIN_S", 0.3)
            await bench.send(100)
            await unheard.wait()
            await told.of("store_unavailable")
        await bench.send(100)
        await told.of("store_back")
        await bench.send(100)


async def test_an_insert_of_which_the_rest_arrives_late_is_there_once(
    server: Server, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of it lay in the network past the deadline, while it was tried again."""
    async with faulty(server) as bench:
        with monkeypatch.context() as patch, bench.proxy.holding(within=ROWS) as held:
            patch.setattr(clickhouse, "WRITE_WITHIN_S", 0.3)
            await bench.send(100)
            await held.wait()
            # 18.16 turns the second attempt away, as long as it waits for the rest of the first.
            await told.of("store_unavailable")
        await told.of("store_back")
        await bench.send(100)


async def test_refused_connections_are_made_again(server: Server, told: Told) -> None:
    """Rows wait as long as nobody listens, and go when somebody does."""
    async with faulty(server) as bench:
        for _ in range(2):
            async with bench.proxy.refusing():
                await bench.send(100)
                await told.of("store_unavailable")
                await bench.send(100)
            await told.of("store_back")
        await bench.send(100)


async def test_a_refusal_behind_progress_holds_rows_back(tmp_path: Path, told: Told) -> None:
    """Where the driver takes a refused insert for a stored one, no row counts as stored."""
    with modern_clickhouse(tmp_path, progress_before_exception=True) as server:
        async with faulty(server) as bench:
            database = Client.from_url(server.url)
            [[klines]] = database.execute(
                "SELECT concat(database, '.', name) FROM system.tables WHERE name = 'klines'"
            )
            with _taking_nothing(database, klines):
                await bench.send(100)
                await told.of("store_unavailable")
                assert bench.writer.stored == 0
            await told.of("store_back")
            await bench.send(100)


@contextmanager
def _taking_nothing(database: Client, table: str) -> Iterator[None]:
    database.execute(f"ALTER TABLE {table} ADD CONSTRAINT nothing CHECK trades = 0")
    yield
    database.execute(f"ALTER TABLE {table} DROP CONSTRAINT nothing")
    database.disconnect()


@define(eq=False)
class _Mortal:
    """A server that is killed and started again; everything else goes on while it starts."""

    folder: Path
    port: int = field(factory=free_port)
    _life: AbstractContextManager[InstalledServer] | None = None

    async def start(self) -> InstalledServer:
        self._life = installed_clickhouse(self.folder, port=self.port)
        return await trio.to_thread.run_sync(self._life.__enter__)

    def kill(self) -> None:
        """Kill it with SIGKILL, if it lives."""
        life, self._life = self._life, None
        if life is not None:
            life.__exit__(None, None, None)


@asynccontextmanager
async def _open_mortal(folder: Path) -> AsyncIterator[_Mortal]:
    mortal = _Mortal(folder)
    try:
        yield mortal
    finally:
        mortal.kill()


@pytest.mark.skipif(not ARCHIVE.exists(), reason="the exchange's archive is not beside the project")
async def test_a_server_killed_in_an_insert_and_down_for_ten_minutes_costs_no_candle(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Candles wait on disk; as they go to the server it is killed again; each is there once."""
    folder = tmp_path / "spool"
    async with (
        running_twin("--archive", str(ARCHIVE), "--speed", str(SPEED)) as (_, twin),
        _open_mortal(tmp_path / "server") as mortal,
        open_proxy(mortal.port) as proxy,
    ):
        symbols = [str(symbol) for symbol in twin["symbols"]]  # type: ignore[attr-defined]  # JSON
        store_url = (await mortal.start()).url_of("market")
        proxied_url = store_url.replace(f":{mortal.port}/", f":{proxy.port}/")
        options = ("--spool", str(folder), *SMALL_MEMORY)
        async with running_agent(twin, proxied_url, *symbols, options=options) as (agent, _):
            await time_passed(twin, RECORDED_MS)
            with trio.fail_after(WITHIN_S):
                now_ms = await exchange_time_ms(twin)
                with proxy.holding(within=_as_stored(Interval.M1.open_at(now_ms))) as held:
                    await held.wait()
                    mortal.kill()
                killed_ms = await exchange_time_ms(twin)
                await _until_spooled(folder, killed_ms + DOWN_MS, agent)
                spooled = _spooled(folder)
                last_ms = max(kline.open_time for kline in spooled)
                down_ms = await exchange_time_ms(twin) - killed_ms
                with proxy.holding(within=_as_stored(last_ms)) as held:
                    await mortal.start()
                    await held.wait()
                    mortal.kill()
                await mortal.start()
                while _segments(folder):
                    await agent._news.wait()
                await time_passed(twin, RECORDED_MS)
            stopped_ms = await exchange_time_ms(twin)
            assert agent.process.poll() is None
            await agent.stop()
            assert agent.process.returncode == 0
            assert not [event for event in agent.events if event["level"] == "error"]

        assert down_ms >= DOWN_MS
        assert not _segments(folder)
        # The second time it was killed when it had taken what it was killed in the first time.
        assert [event["event"] for event in agent.events].count("store_back") == 2
        # What closed meanwhile was on disk, and only one agent has ever used it.
        first_ms = Interval.M1.next_open(Interval.M1.open_at(killed_ms))
        opens = range(first_ms, killed_ms + DOWN_MS - MINUTE_MS, MINUTE_MS)
        minutes = {(kline.symbol, kline.open_time) for kline in spooled if kline.interval == "1m"}
        assert minutes >= set(product(symbols, opens))
        assert (folder / "boot").read_text() == "1"
        candles = await check_recorded(store_url, symbols, stopped_ms)
    record_property("down", f"{down_ms / MINUTE_MS:.1f} minutes of the exchange's time")
    record_property("spooled", len(spooled))
    record_property("candles", candles)


def _as_stored(time_ms: int) -> bytes:
    """A time in a column of times; queries hold none."""
    return struct.pack("<q", time_ms)


def _segments(folder: Path) -> list[Path]:
    """What waits on disk, or lies there for another reason."""
    return list(folder.rglob(f"*{SUFFIX}"))


def _spooled(folder: Path) -> list[Kline]:
    """The rows of all of it, while nobody takes any."""
    files = _segments(folder)
    return [kline for each in files for kline in decode(each.read_bytes()).batch.klines]


async def _until_spooled(folder: Path, time_ms: int, agent: Running) -> None:
    """Wait until candles lie on disk that closed after `time_ms`."""
    while max((kline.close_time for kline in _spooled(folder)), default=0) < time_ms:
        await agent._news.wait()
