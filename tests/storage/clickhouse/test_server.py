from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import trio

from klineagent.core.errors import StoreMisconfigured, StoreUnavailable
from klineagent.storage.clickhouse import connection as line
from klineagent.storage.clickhouse import server as clickhouse
from klineagent.storage.opening import open_store
from klineagent.storage.store import Batch
from klineagent.storage.url import ServerLocation, locate
from tests.native.fixture import ModernServer, modern_clickhouse
from tests.proxy import open_proxy
from tests.servers import InstalledServer, free_port, installed_clickhouse
from tests.storage.samples import sample
from tests.storage.test_store import HEARTBEAT

BATCH = Batch("a", tuple(map(sample, range(10))))
ROWS = BATCH.klines[0].symbol.encode()  # only the rows of an insert hold it
END_OF_STREAM = b"\x05"


async def test_works_once_the_server_is_there(tmp_path: Path) -> None:
    """A store opened without a server fails on each call, and works once a server is there."""
    port = free_port()
    async with open_store(f"clickhouse://default:secret@127.0.0.1:{port}/market") as store:
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                await store.prepare()
            with pytest.raises(StoreUnavailable):
                await store.insert(BATCH)
            with pytest.raises(StoreUnavailable):
                await store.record_agent(HEARTBEAT)
            with pytest.raises(StoreUnavailable):
                await store.summary()
        with installed_clickhouse(tmp_path, port=port):
            await store.insert(BATCH)
            assert await store.final_klines("usdm", "BTCUSDT", "1m") == list(BATCH.klines)
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                await store.insert(BATCH)
        with installed_clickhouse(tmp_path, port=port):
            await store.insert(BATCH)
            await store.record_agent(HEARTBEAT)
            assert [series.closed for series in await store.summary()] == [10]


@pytest.mark.parametrize("kind", ["installed_server", "modern_server"])
async def test_wrong_password_is_the_operators(kind: str, request: pytest.FixtureRequest) -> None:
    """A refused login says so, without the password."""
    server: InstalledServer | ModernServer = request.getfixturevalue(kind)
    async with open_store(server.url_of("market", password="not-it")) as store:
        with pytest.raises(StoreMisconfigured) as caught:
            await store.insert(BATCH)
    assert "not-it" not in str(caught.value)


async def test_user_without_rights_is_the_operators(installed_server: InstalledServer) -> None:
    """Without permission to create the tables, the error says that the operator must."""
    async with open_store(installed_server.url_of("not_yet", user="reader")) as store:
        with pytest.raises(StoreMisconfigured):
            await store.prepare()


async def test_existing_tables_need_no_rights(installed_server: InstalledServer) -> None:
    """Where the operator made the tables, a user who may only read can read."""
    async with open_store(installed_server.url_of("made")) as store:
        await store.insert(BATCH)
    async with open_store(installed_server.url_of("made", user="reader")) as reader:
        assert [series.closed for series in await reader.summary()] == [10]


async def _answer_as_http(stream: trio.SocketStream) -> None:
    await stream.receive_some()
    await stream.send_all(b"HTTP/1.1 400 Bad Request\r\nConnection: Close\r\n\r\n")


async def test_a_port_for_http_is_the_operators(nursery: trio.Nursery) -> None:
    """The port stays wrong; the error names the right ports."""
    [listener] = await nursery.start(partial(trio.serve_tcp, _answer_as_http, 0, host="127.0.0.1"))
    port = listener.socket.getsockname()[1]
    async with open_store(f"clickhouse://127.0.0.1:{port}/market") as store:
        with pytest.raises(StoreMisconfigured, match=rf"{port} speaks HTTP.* 9000, or 9440"):
            await store.prepare()


@pytest.mark.parametrize("port", [8123, 8443])
def test_a_port_that_usually_is_for_http_is_told_of(port: int) -> None:
    """If no server answers, the port may be the reason."""
    server = locate(f"clickhouse://127.0.0.1:{port}/market")
    assert isinstance(server, ServerLocation)
    failure = line._failure(server, ConnectionRefusedError("refused"))
    assert isinstance(failure, StoreUnavailable)
    assert f"refused; {port} usually is ClickHouse's port for HTTP" in str(failure)


async def test_a_port_where_nothing_is_said_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """ClickHouse's HTTP port may have any number, and waits for the client to speak first."""
    monkeypatch.setattr(line, "CONNECT_WITHIN_S", 0.2)
    (silent,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = silent.socket.getsockname()[1]
    async with open_store(f"clickhouse://127.0.0.1:{port}/market") as store:
        with pytest.raises(StoreUnavailable, match="use the port of the native protocol"):
            await store.prepare()
    await silent.aclose()


async def test_queries_that_overlap_leave_one_connection(modern_server: ModernServer) -> None:
    """However often two questions of a kind are asked at once."""
    async with open_proxy(modern_server.port) as proxy:
        url = f"clickhouse://default:secret@127.0.0.1:{proxy.port}/overlapping"
        async with open_store(url) as store:
            await store.prepare()
            for _ in range(5):
                async with trio.open_nursery() as nursery:
                    for _ in range(3):
                        nursery.start_soon(store.summary)
            # The other is that of the preparation.
            with trio.fail_after(5):
                while proxy.held > 2:  # noqa: ASYNC110 - the network sends no event
                    await trio.sleep(0.01)
            assert proxy.connections > 10


async def test_lost_answer_leaves_the_outcome_open(modern_server: ModernServer) -> None:
    """Stored but unconfirmed, a batch counts as unavailable; sent again it is there once."""
    async with open_proxy(modern_server.port) as proxy:
        url = f"clickhouse://default:secret@127.0.0.1:{proxy.port}/lost_answer"
        async with open_store(url) as store:
            await store.prepare()
            await store.insert(Batch("first", (sample(100),)))
            lost = proxy.lost_acks(after=ROWS, ack=END_OF_STREAM, times=1)
            with lost, pytest.raises(StoreUnavailable):
                await store.insert(BATCH)
            assert [series.closed for series in await store.summary()] == [11]
            await store.insert(BATCH)
            assert [series.closed for series in await store.summary()] == [11]


async def test_silent_server_meets_the_deadline(
    modern_server: ModernServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An insert without an answer ends at its deadline, and the next one gets a new connection."""
    async with open_proxy(modern_server.port) as proxy:
        url = f"clickhouse://default:secret@127.0.0.1:{proxy.port}/silent"
        async with open_store(url) as store:
            await store.insert(Batch("first", (sample(100),)))
            with monkeypatch.context() as patch, proxy.black_hole(), trio.fail_after(3):
                patch.setattr(clickhouse, "WRITE_WITHIN_S", 0.2)
                with pytest.raises(StoreUnavailable):
                    await store.insert(BATCH)
            await store.insert(BATCH)
            assert [series.closed for series in await store.summary()] == [11]


async def test_insert_cancelled_while_the_server_is_silent(modern_server: ModernServer) -> None:
    """A cancellation takes effect at once, and the store stays usable."""
    async with open_proxy(modern_server.port) as proxy:
        url = f"clickhouse://default:secret@127.0.0.1:{proxy.port}/cancelled"
        async with open_store(url) as store:
            await store.insert(Batch("first", (sample(100),)))
            with proxy.black_hole() as unheard, trio.fail_after(3):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(store.insert, BATCH)
                    await unheard.wait()
                    nursery.cancel_scope.cancel()
            await store.insert(BATCH)
            assert [series.closed for series in await store.summary()] == [11]


async def test_refusal_behind_progress_is_not_taken_for_success(tmp_path: Path) -> None:
    """If the driver reports success before the server's answer, nothing counts as stored."""
    with modern_clickhouse(tmp_path, progress_before_exception=True) as server:
        async with open_store(server.url) as store:
            await store.prepare()
            assert isinstance(store, clickhouse.ClickHouseStore)
            table = f"`{store._server.database}`.klines"

            async def run(query: str) -> None:
                await store._connections.reads.execute(query)

            await store._thread.run(run, f"ALTER TABLE {table} ADD CONSTRAINT no CHECK trades = 0")
            with pytest.raises(StoreUnavailable, match="the outcome of a query is unknown"):
                await store.insert(BATCH)
            await store._thread.run(run, f"ALTER TABLE {table} DROP CONSTRAINT no")
            await store.insert(BATCH)
            assert [series.closed for series in await store.summary()] == [10]
