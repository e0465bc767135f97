"""Ranges are read in chunks, several at once, beside the writer."""

from __future__ import annotations

import random
from itertools import chain

import pytest
import trio
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from klineagent.core.interval import MINUTE_MS, Interval
from klineagent.core.kline import Kline
from klineagent.storage import reader as storage_reader
from klineagent.storage.memory.store import MemoryStore
from klineagent.storage.reader import (
    READS_AT_ONCE,
    KlineRange,
    Reader,
    Shared,
    count_on_grid,
    opens_of,
)
from klineagent.storage.store import Batch, Store
from tests.klines import OPEN_MS, a_kline

MINUTES = 50


def _range(first: int = 0, end: int = MINUTES, newest: int | None = None) -> KlineRange:
    first_ms, end_ms = OPEN_MS + first * MINUTE_MS, OPEN_MS + end * MINUTE_MS
    return KlineRange(
        venue="usdm",
        symbol="BTCUSDT",
        interval="1m",
        first_ms=first_ms,
        end_ms=end_ms,
        is_newest_first=True,
        limit=newest,
    )


async def _read(reader: Reader, wanted: KlineRange, most: int) -> list[list[Kline]]:
    chunks, rest = [], [wanted]
    while rest:
        rows, left = await reader.read(rest.pop(), most=most)
        assert rows or left is None
        chunks.append(rows)
        rest += [left] if left is not None else []
    return chunks


def _all(chunks: list[list[Kline]]) -> list[Kline]:
    return [*chain.from_iterable(chunks)]


@pytest.fixture
async def filled(store: Store) -> list[Kline]:
    """Fifty minutes are stored; the last is still forming."""
    rows = [a_kline(minute, is_closed=minute < MINUTES - 1) for minute in range(MINUTES)]
    random.Random(7).shuffle(rows)
    await store.insert(Batch("all", tuple(rows)))
    return sorted(row for row in rows if row.is_closed)


async def test_a_range_comes_in_chunks(store: Store, filled: list[Kline]) -> None:
    """Newest first, closed candles only; none is longer than it may be."""
    chunks = await _read(store.reader, _range(), most=20)
    assert [len(chunk) for chunk in chunks] == [19, 20, 10]
    assert _all(chunks) == filled[::-1]


async def test_a_range_comes_in_tables_where_the_store_has_them(
    store: Store, filled: list[Kline], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ascending, with nothing left out at their borders."""
    monkeypatch.setattr(storage_reader, "TABLE_ROWS", 20)
    opens, rest = [], [evolve(_range(), is_newest_first=False)]
    while rest:
        chunk, left = await store.reader.chunk(rest.pop())
        assert isinstance(chunk, list) or len(chunk) <= 20
        assert count_on_grid(chunk, "1m") == len(chunk)
        opens += opens_of(chunk, "1m")
        rest += [left] if left is not None else []
    assert opens == [row.open_time for row in filled]


async def test_a_range_has_bounds(store: Store, filled: list[Kline]) -> None:
    """The first open time is within it, the end is not."""
    assert _all(await _read(store.reader, _range(10, 13), most=2)) == filled[10:13][::-1]
    assert await store.reader.read(_range(60, 70)) == ([], None)
    assert await store.reader.read(_range(5, 5)) == ([], None)


async def test_a_range_has_a_limit(store: Store, filled: list[Kline]) -> None:
    """Counted from the end that comes first, over chunks."""
    chunks = await _read(store.reader, _range(newest=7), most=5)
    assert max(len(chunk) for chunk in chunks) <= 5
    assert _all(chunks) == filled[-7:][::-1]


async def test_years_without_candles_are_passed_in_a_few_queries() -> None:
    """Of a range without bounds, too: each query spans eight times as much as the one before."""
    store, asked = MemoryStore(), []
    rows = [a_kline(minute) for minute in range(30)]
    await store.insert(Batch("all", tuple(rows)))

    async def query(wanted: KlineRange, most: int) -> list[Kline]:
        asked.append(wanted)
        return await store.read_range(wanted, most)

    wanted = KlineRange(venue="usdm", symbol="BTCUSDT", interval="1m", is_newest_first=True)
    assert await _read(Reader(query), wanted, most=10)
    assert len(asked) <= 20


@pytest.mark.parametrize("is_newest_first", [False, True])
@pytest.mark.parametrize("interval", list(Interval))
async def test_a_range_without_bounds_ends(interval: Interval, *, is_newest_first: bool) -> None:
    """Also one of months, and in chunks of one candle or of more than there have ever been."""
    for most in (1, 5_000):
        wanted = KlineRange(
            venue="usdm",
            symbol="BTCUSDT",
            interval=interval.value,
            is_newest_first=is_newest_first,
        )
        assert await _read(MemoryStore().reader, wanted, most) == [[]]


async def test_a_range_may_end_after_all_times_that_are_stored(
    store: Store, filled: list[Kline]
) -> None:
    """However far: databases know no times of later centuries."""
    wanted = evolve(_range(), end_ms=253_000_000_000_000, limit=2)
    assert _all(await _read(store.reader, wanted, most=10)) == filled[:-3:-1]


async def test_a_series_is_read_alone(store: Store, filled: list[Kline]) -> None:
    """Not those of another symbol at the same time."""
    await store.insert(Batch("other", (a_kline(3)._replace(symbol="ETHUSDT"),)))
    assert [row.symbol for row in (await store.reader.read(_range()))[0]] == ["BTCUSDT"] * 49


async def test_reads_and_writes_overlap(store: Store, filled: list[Kline]) -> None:
    """More readers than there are sessions take turns, and rows go in meanwhile."""
    found: list[int] = []

    async def read() -> None:
        found.append(len(_all(await _read(store.reader, _range(), most=10))))

    async with trio.open_nursery() as nursery:
        for _ in range(3 * READS_AT_ONCE):
            nursery.start_soon(read)
        for number in range(5):
            await store.insert(Batch(f"more-{number}", (a_kline(1000 + number),)))
    assert found == [49] * 3 * READS_AT_ONCE


async def test_a_reader_that_is_cancelled_makes_room(store: Store, filled: list[Kline]) -> None:
    """The next ones read as if it had never been."""
    for _ in range(2 * READS_AT_ONCE):
        with trio.move_on_after(0):
            await store.reader.read(_range())
    assert (await store.reader.read(_range()))[0] == filled[::-1]


async def test_what_is_shared_is_used_by_one_at_a_time() -> None:
    """And given back however its user ends."""
    shared = Shared([1, 2])
    used: list[int] = []

    async def use() -> None:
        async with shared.taken() as resource:
            assert resource not in used
            used.append(resource)
            await trio.lowlevel.checkpoint()
            used.remove(resource)

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(use)


@given(st.sets(st.integers(0, 40)), st.integers(1, 9), st.none() | st.integers(1, 50))
def test_chunks_are_the_range(minutes: set[int], most: int, newest: int | None) -> None:
    """Whatever is stored, and however long a chunk is: no candle twice, none left out."""

    async def check() -> None:
        store = MemoryStore()
        rows = [a_kline(minute) for minute in sorted(minutes)]
        await store.insert(Batch("all", tuple(rows)))
        for wanted in (
            _range(newest=newest),
            KlineRange(venue="usdm", symbol="BTCUSDT", interval="1m", limit=newest),
        ):
            read = _all(await _read(store.reader, wanted, most))
            ordered = rows[::-1] if wanted.is_newest_first else rows
            assert read == ordered[:newest]

    trio.run(check)
