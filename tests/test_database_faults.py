"""The writer and a real database with a bad network between: rows are there, each once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, MutableMapping
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from itertools import count
from pathlib import Path
from typing import Any, NoReturn

import pytest
import structlog
import trio
from attrs import define, field
from clickhouse_driver import Client

from klineagent.kline import Kline
from klineagent.storage import clickhouse, writer
from klineagent.storage.disk import Folder
from klineagent.storage.opening import open_store
from klineagent.storage.spool import Spool, open_spool
from klineagent.storage.store import Batch
from klineagent.storage.writer import Writer, open_writer
from tests.native.fixture import ModernServer, modern_clickhouse
from tests.proxy import Proxy, open_proxy
from tests.servers import InstalledServer, free_port, installed_clickhouse
from tests.storage.samples import sample

Server = InstalledServer | ModernServer

ROWS = sample().symbol.encode()  # only the rows of an insert hold it
END_OF_STREAM = b"\x05"
WITHIN_S = 30

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
async def open_bench(
    proxy: Proxy, server: Server, *, spool: Spool | None = None
) -> AsyncIterator[Bench]:
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
            spool=spool,
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


async def test_a_server_killed_in_the_midst_of_an_insert_gets_the_rows_when_it_is_back(
    tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Meanwhile candles keep coming, and wait on disk; then each is there once."""
    # Ten seconds of an outage in one.
    monkeypatch.setattr(writer, "SPOOL_EVERY_S", 1.0)
    async with (
        open_spool(Folder(tmp_path / "spool"), limit_bytes=2**30) as spool,
        _open_mortal(tmp_path / "server") as mortal,
        open_proxy(mortal.port) as proxy,
        open_bench(proxy, await mortal.start(), spool=spool) as bench,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(_keep_sending, bench)
        for _ in range(3):
            with proxy.holding(within=ROWS) as held:
                await held.wait()
                mortal.kill()
                await told.of("store_unavailable", "rows_spooled")
            await mortal.start()
            await told.of("store_back", "spool_empty")
        nursery.cancel_scope.cancel(reason="that was enough")
    assert spool.is_empty


async def _keep_sending(bench: Bench) -> NoReturn:
    while True:
        await bench.send(10)
        await trio.sleep(0.01)  # a thousand candles a second
