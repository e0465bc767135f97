"""`/v1/candles`: documents of closed candles, held against the market."""

from __future__ import annotations

import csv
import io
from typing import Any

import httpx2
import msgspec
import pyarrow as pa
import pytest
import trio
from trio.testing import MockClock

from klineagent.api.models.timestamps import read_moment
from klineagent.api.reading import candles
from klineagent.api.reading.binance import read_app
from klineagent.core.address import Bind
from klineagent.core.errors import NotReadable
from klineagent.core.interval import MINUTE_MS, Interval
from klineagent.exchange.venues import SPOT
from klineagent.reading.candles import CandleReader
from klineagent.reading.documents import COLUMNS
from klineagent.reading.ranges import RangeReader, SeriesCandles
from klineagent.storage.memory.disk import MemoryDisk
from klineagent.storage.reader import Chunk
from klineagent.testing.simulation import FEBRUARY_2026_MS, Simulation, open_simulation
from tests.reading.threads import at_once

SYMBOLS = ["BTCUSDT", "spot:BTCUSDT"]


async def asked(simulation: Simulation, query: str, *, after_s: float = 130) -> tuple[int, bytes]:
    """The status and body of an answer, once the agent has recorded for a while."""
    agent = simulation.agent
    reader = CandleReader(venues=agent.venues, writer=agent.writer)
    with agent.bus.subscribed(reader.tail):
        await trio.sleep(after_s)
        answer = await read_app(reader).test_client().get(f"/v1/candles?{query}")
        return answer.status_code, await answer.get_data(as_text=False)


@pytest.mark.parametrize("form", ["csv", "jsonl", "arrow"])
async def test_every_format_has_the_same_candles(autojump_clock: MockClock, form: str) -> None:
    """Of several series in one document, each ascending, with nothing left out."""
    async with open_simulation(
        symbols=SYMBOLS, intervals=[Interval.M1], beside=[SPOT], history=6_000
    ) as simulation:
        query = f"symbol={','.join(SYMBOLS)}&interval=1m&last=3000&format={form}"
        status, body = await asked(simulation, query, after_s=310)
        assert status == 200
        if form == "arrow":
            rows = pa.ipc.open_stream(body).read_all().to_pylist()
        elif form == "csv":
            rows = [*csv.DictReader(io.StringIO(body.decode()))]
        else:
            rows = [msgspec.json.decode(line) for line in body.splitlines()]
        stored = simulation.store.klines
        for venue in ("usdm", "spot"):
            mine = [row for row in rows if row["venue"] == venue]
            kept = sorted(
                row
                for key, row in stored.items()
                if key[:3] == (venue, "BTCUSDT", "1m") and row.is_closed
            )[-3000:]
            assert len(mine) == len(kept) > 1_400
            assert [float(row["close"]) for row in mine] == [row.close for row in kept]
        assert [*rows[0]] == [*COLUMNS]


@pytest.mark.logs("answer_cut")
async def test_a_document_that_cannot_be_completed_is_cut(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client sees that it is not whole, and a line in the log says why."""
    parts = iter([SeriesCandles.part])

    async def part(candles: SeriesCandles) -> Chunk | None:
        if (first := next(parts, None)) is None:
            raise NotReadable("3 candles are on their way to the database")
        return await first(candles)

    monkeypatch.setattr(SeriesCandles, "part", part)
    async with open_simulation(
        symbols=["BTCUSDT"], intervals=[Interval.M1], read_bind=Bind("127.0.0.1", 0)
    ) as simulation:
        await trio.sleep(130)
        url = f"http://{simulation.agent.read_bind}/v1/candles?symbol=BTCUSDT&interval=1m"
        async with httpx2.AsyncClient() as client:
            with pytest.raises(httpx2.RemoteProtocolError, match="incomplete chunked read"):
                await client.get(url)


async def test_a_range_and_what_cannot_be_read(autojump_clock: MockClock) -> None:
    """Bounds as asked; wrong parameters and unknown series are refused before the first row."""
    async with open_simulation(
        symbols=["BTCUSDT"], intervals=[Interval.M1], history=100
    ) as simulation:
        first_ms = FEBRUARY_2026_MS - 5 * MINUTE_MS
        query = f"symbol=BTCUSDT&interval=1m&from={first_ms}&to={FEBRUARY_2026_MS}&format=jsonl"
        status, body = await asked(simulation, query)
        opens = [msgspec.json.decode(line)["open_time"] for line in body.splitlines()]
        assert (status, len(opens), opens[0]) == (200, 5, "2026-01-31T23:55:00+00:00")
        for wrong, code in [
            ("symbol=BTCUSDT&interval=7m", 400),
            ("symbol=BTCUSDT&interval=1m&format=xls", 400),
            ("symbol=moon:BTCUSDT&interval=1m", 400),
            ("symbol=ETHUSDT&interval=1m", 503),
            ("symbol=spot:BTCUSDT&interval=1m", 503),
            ("symbol=*XYZ&interval=1m", 503),
            ("symbol=spot:*&interval=1m", 503),
            ("symbol=BTC[USDT&interval=1m", 400),
            ("symbol=BTCUSDT&interval=1m,7m", 400),
            ("symbol=BTCUSDT&interval=1m&state=open", 400),
            (f"symbol={','.join(f'{n}*' for n in range(51))}&interval=1m", 400),
            (f"symbol=*&interval={','.join(f'{n}m' for n in range(51))}", 400),
        ]:
            status, body = await asked(simulation, wrong, after_s=0)
            assert (status, [*msgspec.json.decode(body)]) == (code, ["error"]), wrong


async def test_patterns_select_what_is_recorded(autojump_clock: MockClock) -> None:
    """Of any venue, at several intervals; what two of them match comes once."""
    symbols = ["BTCUSDT", "ETHUSDT", "spot:BTCUSDT"]
    async with open_simulation(
        symbols=symbols, intervals=[Interval.M1, Interval.M5], beside=[SPOT], history=20
    ) as simulation:
        query = "symbol=ETH*,*USDT,spot:[AB]*&interval=5m,1m&last=2&format=jsonl"
        status, body = await asked(simulation, query)
        assert status == 200
        rows = [msgspec.json.decode(line) for line in body.splitlines()]
        names = [(row["venue"], row["symbol"], row["interval"]) for row in rows]
        series = [("usdm", "ETHUSDT"), ("usdm", "BTCUSDT"), ("spot", "BTCUSDT")]
        assert names == [(*each, i) for each in series for i in ("5m", "5m", "1m", "1m")]


async def test_names_are_taken_once_and_a_document_has_so_many_series(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often a request names them."""
    matching, patterns = RangeReader.matching, []

    async def counted(reader: RangeReader, *asked: Any) -> Any:
        patterns.append(asked[1:])
        return await matching(reader, *asked)

    monkeypatch.setattr(RangeReader, "matching", counted)
    async with open_simulation(
        symbols=["BTCUSDT", "ETHUSDT"], intervals=[Interval.M1], history=20
    ) as simulation:
        many = "symbol=" + ",".join(["*"] * 2_000) + "&interval=" + ",".join(["1m"] * 2_000)
        status, body = await asked(simulation, f"{many}&last=2&format=jsonl")
        assert (status, len(body.splitlines())) == (200, 4)
        assert patterns == [("*", [Interval.M1])]
        monkeypatch.setattr(candles, "MOST_SERIES", 1)
        status, body = await asked(simulation, many, after_s=0)
        assert (status, b"2 series, of at most 1" in body) == (400, True)


async def test_more_months_than_there_are_years_for(autojump_clock: MockClock) -> None:
    """The answer has those that are recorded."""
    async with open_simulation(
        symbols=["BTCUSDT"], intervals=[Interval.MO1], history=20
    ) as simulation:
        status, _ = await asked(simulation, "symbol=BTCUSDT&interval=1M&last=30000")
        assert status == 200


async def test_rows_in_the_spool_are_never_left_out(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the database is away, and until the spool is empty, a document is whole or refused."""
    monkeypatch.setattr(trio.to_thread, "run_sync", at_once)  # it is written to a file
    query = "symbol=BTCUSDT&interval=1m&last=8&format=jsonl"
    async with open_simulation(
        symbols=["BTCUSDT"], intervals=[Interval.M1], history=20, disk=MemoryDisk()
    ) as simulation:
        assert (await asked(simulation, query))[0] == 200
        with simulation.store.offline():
            status, body = await asked(simulation, query, after_s=300)
            assert (status, b"cannot be read" in body) == (503, True)
        statuses = []
        for _ in range(60):
            with simulation.store.slow(0.5):
                status, body = await asked(simulation, query, after_s=0.1)
            statuses.append(status)
            if status == 200:
                rows = [msgspec.json.decode(line) for line in body.splitlines()]
                opens = [read_moment(row["open_time"], field="") for row in rows]
                assert opens == [*range(opens[0], opens[0] + 8 * MINUTE_MS, MINUTE_MS)]
                assert simulation.exchange.clock.now_ms() - opens[-1] < 3 * MINUTE_MS
        assert {*statuses} == {200, 503}


async def test_a_range_that_ends_before_it_begins_is_a_mistake(autojump_clock: MockClock) -> None:
    """As it is to the exchange; an empty document would pass for an answer."""
    async with open_simulation(symbols=["BTCUSDT"], intervals=[Interval.M1]) as simulation:
        query = "symbol=BTCUSDT&interval=1m&from=2026-02-01T00:02&to=2026-02-01T00:01"
        status, body = await asked(simulation, query)
        assert (status, b"is after to" in body) == (400, True)
