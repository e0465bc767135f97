"""Documents of an embedded database over sockets, as clients read them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import polars as pl
import pyarrow.ipc
import pyarrow.parquet
import pytest
import trio
from attrs import frozen

from klineagent.agent import Agent, open_agent
from klineagent.api.server.middleware import FewAtOnce
from klineagent.config.model import Config
from klineagent.core.address import Bind
from klineagent.core.interval import Interval
from klineagent.exchange.venues import USDM
from klineagent.reading import kept_files
from klineagent.storage import reader as storage_reader
from klineagent.storage.clickhouse.embedded import EmbeddedStore
from klineagent.storage.clickhouse.session import read_rows
from klineagent.testing.simulation import FEBRUARY_2026_MS, network_of
from klineagent.twin.exchange import Exchange
from klineagent.twin.exchanges import open_exchanges
from klineagent.twin.market.random import RandomMarket
from tests.places import ROOT

pytestmark = pytest.mark.slow

LOOPBACK = Bind("127.0.0.1", 0)
HISTORY = 1_000
CHUNK = 150
SYMBOLS = ["BTCUSDT", "ETHUSDT"]


@frozen
class Recorded:
    """An agent that has recorded a thousand candles of two series, and the exchange."""

    agent: Agent
    exchange: Exchange

    def url(self, query: str) -> str:
        """The address of a document."""
        return f"http://{self.agent.read_bind}/v1/candles?{query}"

    def closes(self, symbol: str) -> list[float]:
        """The prices of the newest closed candles as the exchange tells them."""
        now_ms = self.exchange.clock.now_ms()
        query = {"symbol": symbol, "interval": "1m", "limit": "901"}
        body = self.exchange.rest.answer("GET", "/fapi/v1/klines", query, now_ms).body
        return [float(row[4]) for row in msgspec.json.decode(body)][:-1]


@pytest.fixture
async def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Recorded]:
    """An agent with an embedded database, read in many chunks."""
    monkeypatch.setattr(storage_reader, "TABLE_ROWS", CHUNK)
    start_ms = FEBRUARY_2026_MS + 5_000
    market = RandomMarket(symbols=3, seed=1, start_ms=start_ms, venue_name="usdm")
    config = Config(
        symbols=SYMBOLS,
        intervals=[Interval.M1],
        history=HISTORY,
        store=f"chdb://{tmp_path}/db",
        command_bind=LOOPBACK,
        status_bind=LOOPBACK,
        read_bind=LOOPBACK,
        spool="none",
        state="none",
    )
    async with (
        open_exchanges({USDM.name: market}, tick_ms=1_000) as exchanges,
        trio.open_nursery() as connections,
    ):
        network = network_of(exchanges, connections)
        async with open_agent(config, network=network) as agent:
            with trio.fail_after(60):
                while not _is_recorded(agent):  # noqa: ASYNC110 - there is no event
                    await trio.sleep(0.05)
            yield Recorded(agent, exchanges[USDM.name])
        connections.cancel_scope.cancel()


def _is_recorded(agent: Agent) -> bool:
    series = agent.registry.subscriptions()
    return (
        len(series) == len(SYMBOLS)
        and all(each.audited_ms is not None for each in series)
        and agent.registry.missing() == 0
        and agent.writer.rows_waiting == 0
    )


def parsed(form: str, body: bytes) -> list[dict[str, Any]]:
    """The rows of a document."""
    if form == "arrow":
        return list(pyarrow.ipc.open_stream(body).read_all().to_pylist())
    if form == "parquet":
        return list(pyarrow.parquet.read_table(io.BytesIO(body)).to_pylist())
    if form == "csv":
        return [*csv.DictReader(io.StringIO(body.decode()))]
    return [msgspec.json.decode(line) for line in body.splitlines()]


async def test_a_document_of_many_chunks_is_what_the_exchange_tells(recorded: Recorded) -> None:
    """In each format; series by series, ascending, no candle left out or told twice."""
    async with httpx2.AsyncClient(timeout=30) as client:
        for form in ("csv", "jsonl", "arrow", "parquet"):
            query = f"symbol=*USDT&interval=1m&last=900&format={form}"
            answer = await client.get(recorded.url(query))
            assert answer.status_code == 200
            rows = parsed(form, answer.content)
            assert [row["symbol"] for row in rows] == [s for s in SYMBOLS for _ in range(900)]
            for symbol in SYMBOLS:
                closes = [float(row["close"]) for row in rows if row["symbol"] == symbol]
                assert closes == recorded.closes(symbol), form


async def test_a_file_is_read_in_parts(recorded: Recorded) -> None:
    """By HEAD and Range, whatever the format."""
    url = recorded.url("symbol=BTCUSDT&interval=1m&last=700&format=csv")
    async with httpx2.AsyncClient(timeout=30) as client:
        head = await client.head(url)
        size = int(head.headers["content-length"])
        assert (head.status_code, head.headers["accept-ranges"]) == (200, "bytes")
        parts = []
        for asked, told in [
            ("0-9", f"0-9/{size}"),
            (f"10-{size + 99}", f"10-{size - 1}/{size}"),
            ("-5", f"{size - 5}-{size - 1}/{size}"),
            (f"-{10 * size}", f"0-{size - 1}/{size}"),
        ]:
            part = await client.get(url, headers={"Range": f"bytes={asked}"})
            assert (part.status_code, part.headers["content-range"]) == (206, f"bytes {told}")
            parts.append(part.content)
        assert parts[0] + parts[1] == parts[3]
        assert parts[3].endswith(parts[2])
        assert len(parsed("csv", parts[3])) == 700
        beyond = await client.get(url, headers={"Range": f"bytes={size}-"})
        assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{size}")


async def test_ranges_of_two_files_are_never_joined(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who goes on gets a range of the file that it began with, or a whole file."""
    url = recorded.url("symbol=BTCUSDT&interval=1m&last=700&format=csv")
    async with httpx2.AsyncClient(timeout=30) as client:

        async def ask(first: int, **conditions: str) -> tuple[int, str, int]:
            named = {name.replace("_", "-"): value for name, value in conditions.items()}
            part = await client.get(url, headers={"Range": f"bytes={first}-99", **named})
            return part.status_code, part.headers.get("etag", ""), len(part.content)

        assert (await ask(10))[0] == 200
        status, etag, size = await ask(0)
        assert (status, size) == (206, 100)
        for condition in ({}, {"If_Range": etag}, {"If_Match": etag}, {"If_Match": "*"}):
            assert await ask(10, **condition) == (206, etag, 90)
        assert (await ask(10, If_Range='"another"'))[0] == 200
        assert (await ask(10, If_Match='"another"'))[0] == 412
        monkeypatch.setattr(kept_files, "UNUSED_S", 0)
        for condition in ({}, {"If_Range": etag}):
            status, newer, size = await ask(10, **condition)
            assert (status, newer != etag, size > 700) == (200, True, True)
        assert (await ask(10, If_Match=etag))[0] == 412


async def test_a_client_of_http_1_0_is_told_the_length(recorded: Recorded) -> None:
    """As it could not tell a cut from the end."""
    bind = recorded.agent.read_bind
    assert bind is not None
    async with await trio.open_tcp_stream(bind.host, bind.port) as stream:
        path = "/v1/candles?symbol=BTCUSDT&interval=1m&last=700"
        await stream.send_all(f"GET {path} HTTP/1.0\r\nHost: {bind}\r\n\r\n".encode())
        answer = b"".join([piece async for piece in stream])
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-length: %d" % len(body) in head.lower()
    assert len(parsed("csv", body)) == 700


async def test_the_lines_of_the_documentation_work(recorded: Recorded) -> None:
    """As they are printed, each as the last of a notebook's cell."""
    page = (ROOT / "docs" / "reading.md").read_text(encoding="utf-8")
    [block] = re.findall(r"## Documents\n.*?```python\n(.*?)```", page, re.DOTALL)
    address = f"{recorded.agent.read_bind}"
    lines = block.replace("127.0.0.1:9977", address).replace("last=1440", "last=900").splitlines()

    def use() -> list[Any]:
        names: dict[str, Any] = {}
        found = []
        for line in filter(None, lines):
            try:
                found.append(eval(line, names))  # noqa: S307 - it is our own page
            except SyntaxError:
                exec(line, names)  # noqa: S102
        # duckdb reads its stream when it is asked for rows.
        return [each.fetchall() if hasattr(each, "fetchall") else each for each in found]

    csv_frame, parquet_frame, sums, highs = await trio.to_thread.run_sync(use)
    closes = [close for symbol in SYMBOLS for close in recorded.closes(symbol)]
    assert csv_frame["close"].to_list() == parquet_frame["close"].to_list() == closes
    assert {symbol for symbol, _ in sums.rows()} == {symbol for symbol, _ in highs} == {*SYMBOLS}


async def test_polars_scans_files(recorded: Recorded) -> None:
    """It asks for the end of a Parquet file first, then for the columns that it needs."""

    def scan() -> tuple[list[float], int]:
        parquet = recorded.url("symbol=BTCUSDT&interval=1m&last=900&format=parquet")
        text = recorded.url("symbol=BTCUSDT&interval=1m&last=900&format=csv")
        closes = pl.scan_parquet(parquet).select("close").collect()["close"].to_list()
        return closes, len(pl.read_csv(text))

    closes, count = await trio.to_thread.run_sync(scan)
    assert closes == recorded.closes("BTCUSDT")
    assert count == 900


async def test_nothing_is_read_for_a_client_that_has_left(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its query is gone within a second, and no other follows."""
    monkeypatch.setattr(storage_reader, "TABLE_ROWS", 1)
    store = recorded.agent.store
    assert isinstance(store, EmbeddedStore)
    read_table, reads = store.reader._table, 0
    assert read_table is not None

    async def counted(wanted: storage_reader.KlineRange) -> storage_reader.CandleTable:
        nonlocal reads
        reads += 1
        return await read_table(wanted)

    over, call = trio.Event(), FewAtOnce.__call__

    async def called(few: FewAtOnce, *request: Any) -> None:
        try:
            await call(few, *request)
        finally:
            over.set()

    async def queries() -> int:
        select = "SELECT query FROM system.processes"
        return len(await store._reading.run(lambda session: read_rows(session, select)))

    monkeypatch.setattr(store.reader, "_table", counted)
    monkeypatch.setattr(FewAtOnce, "__call__", called)
    bind = recorded.agent.read_bind
    assert bind is not None
    async with await trio.open_tcp_stream(bind.host, bind.port) as stream:
        request = (
            f"GET {recorded.url('symbol=BTCUSDT&interval=1m')} HTTP/1.1\r\nHost: {bind}\r\n\r\n"
        )
        await stream.send_all(request.encode())
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")
    with trio.fail_after(1):
        await over.wait()
        seen = reads
        while await queries() > 1:  # noqa: ASYNC110 - one is that which counts them
            await trio.sleep(0.01)
    assert reads == seen < HISTORY


async def test_the_forming_candle_is_the_last_row(recorded: Recorded) -> None:
    """If it is wanted: with a column that tells which one it is."""
    async with httpx2.AsyncClient(timeout=30) as client:
        query = "symbol=BTCUSDT&interval=1m&last=3&state=all&format="
        rows = [{"is_closed": "true"}]
        with trio.fail_after(10):
            while rows[-1]["is_closed"] == "true":
                rows = parsed("csv", (await client.get(recorded.url(f"{query}csv"))).content)
        assert [row["is_closed"] for row in rows] == ["true", "true", "false"]
        answer = await client.get(recorded.url(f"{query}parquet"))
        closed = [row["is_closed"] for row in parsed("parquet", answer.content)]
        assert closed == [True, True, False]
        opens = [row["open_time"] for row in rows]
        assert opens[-1] == "2026-02-01T00:00:00+00:00"
