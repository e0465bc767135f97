from __future__ import annotations

import random
import sys
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
import trio

from klineagent.core.errors import RowsRefused, StoreMisconfigured, StoreUnavailable
from klineagent.core.interval import DAY_MS, MINUTE_MS, Interval
from klineagent.core.kline import Kline
from klineagent.storage.clickhouse.embedded import EmbeddedStore
from klineagent.storage.clickhouse.server import ClickHouseStore
from klineagent.storage.clickhouse.session import read_rows
from klineagent.storage.memory.store import MemoryStore
from klineagent.storage.opening import open_store
from klineagent.storage.store import AgentRow, Batch, SeriesSummary, Store
from tests.storage.samples import FIRST_OPEN, fetched_candle, sample, update

HEARTBEAT = AgentRow(
    ip="10.0.0.1",
    port=9999,
    connection_count=14,
    assigned_symbol_count=2,
    last_heartbeat=datetime(2026, 2, 1, 12, 0, 0, 123_000, tzinfo=UTC),
)


async def rows_of(store: Store, query: str) -> list[Any]:
    """What a user of the database sees; `{db}` stands for its name."""
    match store:
        case ClickHouseStore():
            query = query.format(db=f"`{store._server.database}`")
            execute = partial(store._connections.reads.execute, query)
            return [tuple(row) for row in await store._thread.run(execute)]
        case EmbeddedStore():
            query = query.format(db="market")
            return [tuple(row) for row in await store._reading.run(partial(read_rows, query=query))]
        case _:
            pytest.skip("the memory store has no SQL")


async def agents_of(store: Store) -> list[tuple[str, int, int, int]]:
    """All of table `agents`, as a plain SELECT shows it."""
    if isinstance(store, MemoryStore):
        return sorted(
            (row.ip, row.port, row.connection_count, row.assigned_symbol_count)
            for row in store.agents.values()
        )
    rows = await rows_of(store, "SELECT * FROM {db}.agents")
    return sorted(row[:4] for row in rows)


async def test_is_a_store(store: Store) -> None:
    """Every store fits the protocol, as mypy sees here, and begins empty."""
    promised: Store = store
    assert await promised.summary() == []


async def test_who_may_not_create_reads_what_is_there_or_is_told(real_store_url: str) -> None:
    """What is not there is neither made nor taken for empty."""
    for _ in range(2):
        async with open_store(real_store_url, may_create=False) as store:
            with pytest.raises(StoreMisconfigured, match="it has no tables"):
                await store.summary()
    async with open_store(real_store_url) as store:
        await store.insert(Batch("a", (sample(0),)))
    async with open_store(real_store_url, may_create=False) as store:
        assert [series.closed for series in await store.summary()] == [1]


async def test_newest_version_wins_whatever_the_order(store: Store) -> None:
    """Of shuffled, duplicated and resent updates, the newest state of each candle stays."""
    chance = random.Random(7)
    days = [minute * 1440 * 9 for minute in range(8)]  # several months, so several partitions
    events = sorted(chance.sample(range(1, 59_000), 30))
    updates = [update(day, event) for day in days for event in events]
    truth = [update(day, 60_000, is_closed=True) for day in days]
    sent = updates + truth + chance.sample(updates, 60)
    chance.shuffle(sent)
    batches = [Batch(f"b{at}", tuple(sent[at : at + 37])) for at in range(0, len(sent), 37)]
    resent = batches + chance.sample(batches, len(batches) // 2)
    for batch in resent:
        await store.insert(batch)
    assert await store.final_klines("usdm", "BTCUSDT", "1m") == truth


async def test_correction_after_the_close_wins(store: Store) -> None:
    """A later version of a closed candle replaces it, an older one does not."""
    corrected = update(0, 61_000, is_closed=True)
    await store.insert(Batch("a", (update(0, 60_000, is_closed=True),)))
    await store.insert(Batch("b", (corrected,)))
    await store.insert(Batch("c", (update(0, 60_500, is_closed=True),)))
    assert await store.final_klines("usdm", "BTCUSDT", "1m") == [corrected]


@pytest.mark.parametrize("late_first", [True, False])
async def test_what_is_closed_stays_closed(store: Store, late_first: bool) -> None:
    """A forming state with a late event time does not reopen a candle, whenever it is stored."""
    streamed, fetched = sample(0), fetched_candle(1)
    late = [update(minute, 90 * MINUTE_MS) for minute in (0, 1)]
    batches = [Batch("late", tuple(late)), Batch("closed", (streamed, fetched))]
    for batch in batches if late_first else reversed(batches):
        await store.insert(batch)
    assert await store.final_klines("usdm", "BTCUSDT", "1m") == [streamed, fetched]


@pytest.mark.parametrize("fetched_first", [True, False])
async def test_a_streamed_candle_outranks_a_fetched_one(store: Store, fetched_first: bool) -> None:
    """Also if its event came in the first millisecond after the close."""
    streamed = update(0, MINUTE_MS, is_closed=True)
    batches = [Batch("fetched", (fetched_candle(0),)), Batch("streamed", (streamed,))]
    for batch in batches if fetched_first else reversed(batches):
        await store.insert(batch)
    assert await store.final_kline(*streamed.key) == streamed


async def test_last_inserted_wins_a_tie(store: Store) -> None:
    """Of two states with the same version, the later insert stays."""
    await store.insert(Batch("a", (sample(close=1.0),)))
    await store.insert(Batch("b", (sample(close=2.0),)))
    assert [kline.close for kline in await store.final_klines("usdm", "BTCUSDT", "1m")] == [2.0]


async def test_known_token_stores_nothing(store: Store) -> None:
    """A batch sent again does not even leave a second row for FINAL to remove."""
    batch = Batch("once", tuple(sample(minute) for minute in range(3)))
    for _ in range(3):
        await store.insert(batch)
    assert len(await store.final_klines("usdm", "BTCUSDT", "1m")) == 3
    if isinstance(store, ClickHouseStore):
        assert store._layout is not None
        if not store._layout.dialect.knows_tokens:
            pytest.skip("this server knows no tokens, so only FINAL makes one row of three")
    assert await rows_of(store, "SELECT count() FROM {db}.klines") == [(3,)]


async def test_open_candles_stay_out_of_the_final_view(store: Store) -> None:
    """`klines_final` shows closed candles only."""
    await store.insert(Batch("a", (sample(0), update(1, 30_000))))
    assert await store.final_klines("usdm", "BTCUSDT", "1m") == [sample(0)]
    assert [series.closed for series in await store.summary()] == [1]


EXTREMES = [
    sample(0),
    sample(1, open=5e-324, high=sys.float_info.max, low=-sys.float_info.max, close=0.1 + 0.2),
    sample(2, volume=0.0, quote_volume=1e15 + 0.125, taker_buy_volume=1 / 3),
    sample(3, first_trade_id=-1, last_trade_id=-1, trades=0),
    sample(4, first_trade_id=2**63 - 1, last_trade_id=2**63 - 1, trades=2**32 - 1),
    sample(5, version=0),
    sample(6, version=2**64 - 1),
    sample(7, close_time=FIRST_OPEN + 1),
    sample(8, event_time=9_999_999_999_999),
    sample(9, venue="coinm"),
]


async def test_every_field_comes_back_as_it_went(store: Store) -> None:
    """Extreme values survive, and their types are exactly those of `Kline`."""
    await store.insert(Batch("a", tuple(EXTREMES)))
    klines = [
        kline
        for venue in ("usdm", "coinm")
        for kline in await store.final_klines(venue, "BTCUSDT", "1m")
    ]
    assert klines == EXTREMES
    expected = [type(value) for value in sample()]
    assert all([type(value) for value in kline] == expected for kline in klines)


@pytest.mark.parametrize("symbol", ["币安人生USDT", "O'HARA\\USDT", 'a"b`c%s{x}', "", "x" * 300])
async def test_symbols_are_any_text(store: Store, symbol: str) -> None:
    """Names are stored and found whatever characters they hold."""
    await store.insert(Batch("a", (sample(symbol=symbol),)))
    assert await store.final_klines("usdm", symbol, "1m") == [sample(symbol=symbol)]
    assert [series.symbol for series in await store.summary()] == [symbol]


async def test_earliest_and_latest_open_times(store: Store) -> None:
    """Candles from the epoch to far in the future can be stored together."""
    klines = [sample(open_time=0), sample(open_time=4_000_000_000_000)]
    await store.insert(Batch("a", tuple(klines)))
    assert await store.final_klines("usdm", "BTCUSDT", "1m") == klines


async def test_backfill_of_many_months_fits_one_batch(store: Store) -> None:
    """Fifteen years of daily candles need no splitting."""
    klines = [sample(interval="1d", open_time=day * 30 * DAY_MS) for day in range(180)]
    await store.insert(Batch("a", tuple(klines)))
    assert len(await store.final_klines("usdm", "BTCUSDT", "1d")) == 180


async def test_klines_of_another_series_stay_out(store: Store) -> None:
    """A series is its symbol and its interval; `1m` is not `1M`."""
    others = [sample(symbol="ETHUSDT"), sample(interval="1M"), sample(interval="5m")]
    await store.insert(Batch("a", (*others, sample())))
    assert await store.final_klines("usdm", "BTCUSDT", "1m") == [sample()]
    assert await store.final_klines("usdm", "BTCUSDT", "1h") == []


async def test_the_newest_rows_can_be_read_alone(store: Store) -> None:
    """As many as asked for, in order of open time, of one venue only."""
    klines = [sample(minute) for minute in range(20)]
    await store.insert(Batch("a", (*klines, sample(30, venue="spot"))))
    assert await store.final_klines("usdm", "BTCUSDT", "1m", newest=3) == klines[-3:]
    assert await store.final_klines("usdm", "BTCUSDT", "1m", newest=30) == klines


async def test_one_candle_can_be_looked_at(store: Store) -> None:
    """Its final row, or nothing where it is open, of another series, or not there."""
    candle = ("usdm", "BTCUSDT", "1m")
    others = [sample(1, symbol="ETHUSDT"), sample(1, venue="spot"), update(2, 5)]
    await store.insert(Batch("a", (*others, update(0, 5), update(0, 60_000, is_closed=True))))
    assert await store.final_kline(*candle, FIRST_OPEN) == update(0, 60_000, is_closed=True)
    for absent in (FIRST_OPEN + MINUTE_MS, FIRST_OPEN + 2 * MINUTE_MS, FIRST_OPEN + 1, 0):
        assert await store.final_kline(*candle, absent) is None


async def test_the_rank_of_a_candle_is_that_of_its_highest_state(store: Store) -> None:
    """Closed or forming, whichever came last; none where nothing is stored, or elsewhere."""
    others = (sample(1, symbol="ETHUSDT"), sample(1, venue="spot"), sample(3))
    await store.insert(Batch("a", (update(0, 7), update(0, 5), sample(1), *others)))
    await store.insert(Batch("b", (fetched_candle(1),)))
    found = await store.highest_ranks(
        "usdm", "BTCUSDT", "1m", FIRST_OPEN, FIRST_OPEN + 3 * MINUTE_MS
    )
    assert found == {
        FIRST_OPEN: update(0, 7).version,
        FIRST_OPEN + MINUTE_MS: sample(1).version,
    }


async def test_summary_counts_by_symbol_and_interval_length(store: Store) -> None:
    """Series come ordered by symbol, then by length, with their count and first and last open."""
    klines = [
        sample(minute, symbol=symbol, interval=interval.value)
        for symbol in ("ETHUSDT", "BTCUSDT")
        for interval in Interval
        for minute in range(3)
    ]
    random.Random(3).shuffle(klines)
    await store.insert(Batch("a", tuple(klines)))
    last = sample(2).open_time
    assert await store.summary() == [
        SeriesSummary("usdm", symbol, interval.value, 3, FIRST_OPEN, last)
        for symbol in ("BTCUSDT", "ETHUSDT")
        for interval in Interval
    ]


async def test_empty_batch_changes_nothing(store: Store) -> None:
    """A batch without rows is accepted."""
    await store.insert(Batch("a", ()))
    assert await store.summary() == []


async def test_large_batch(store: Store) -> None:
    """Twenty thousand rows go in one insert."""
    klines = tuple(map(sample, range(20_000)))
    await store.insert(Batch("a", klines))
    assert await store.final_klines("usdm", "BTCUSDT", "1m") == list(klines)


async def test_preparing_twice_harms_nothing(store: Store) -> None:
    """`prepare` may come at any time and leaves the rows alone."""
    await store.prepare()
    await store.insert(Batch("a", (sample(),)))
    await store.prepare()
    assert await store.final_klines("usdm", "BTCUSDT", "1m") == [sample()]


async def test_agent_has_one_live_row(store: Store) -> None:
    """A plain SELECT shows each agent once, as of its newest heartbeat."""
    other = AgentRow(
        ip="10.0.0.2",
        port=9999,
        connection_count=1,
        assigned_symbol_count=1,
        last_heartbeat=HEARTBEAT.last_heartbeat,
    )
    await store.record_agent(other)
    for minute in range(5):
        await store.record_agent(
            AgentRow(
                ip=HEARTBEAT.ip,
                port=HEARTBEAT.port,
                connection_count=minute,
                assigned_symbol_count=2 * minute,
                last_heartbeat=HEARTBEAT.last_heartbeat + timedelta(minutes=minute),
            )
        )
    await store.record_agent(HEARTBEAT)  # late, so it loses
    assert await agents_of(store) == [("10.0.0.1", 9999, 4, 8), ("10.0.0.2", 9999, 1, 1)]


async def test_heartbeat_is_kept_to_the_millisecond(store: Store) -> None:
    """The time of a heartbeat is the one given, in UTC."""
    await store.record_agent(HEARTBEAT)
    [(heartbeat,)] = await rows_of(store, "SELECT toString(last_heartbeat) FROM {db}.agents")
    assert heartbeat in {"2026-02-01 12:00:00.123", "1769947200123"}


async def test_tables_have_the_columns_users_know(store: Store) -> None:
    """`SELECT *` shows the documented columns in their order, in the table and in the view."""
    await store.insert(Batch("a", (sample(),)))
    for table in ("klines", "klines_final"):
        [row] = await rows_of(store, f"SELECT * FROM {{db}}.{table}")
        columns = (*Kline._fields, "inserted_at")
        names = ", ".join(f"`{name}`" for name in columns)
        # On old servers the view shows its times in readable form besides.
        shown = row[: len(columns)]
        assert await rows_of(store, f"SELECT {names} FROM {{db}}.{table}") == [shown]


async def test_insert_heartbeat_and_reads_may_overlap(store: Store) -> None:
    """The four kinds of calls do not wait for or disturb each other."""
    batches = [Batch(f"b{n}", tuple(sample(n * 100 + m) for m in range(100))) for n in range(10)]

    async def insert() -> None:
        for batch in batches:
            await store.insert(batch)

    async def record() -> None:
        for _ in range(5):
            await store.record_agent(HEARTBEAT)

    async def read() -> None:
        for _ in range(10):
            await store.summary()
            await store.final_klines("usdm", "BTCUSDT", "1m")

    async def look() -> None:
        for _ in range(20):
            await store.final_kline("usdm", "BTCUSDT", "1m", FIRST_OPEN)

    async with trio.open_nursery() as nursery:
        for task in (insert, record, read, look):
            nursery.start_soon(task)
    assert [series.closed for series in await store.summary()] == [1000]


async def test_cancelled_insert_leaves_the_store_usable(store: Store) -> None:
    """After a cancel anywhere in an insert the same batch goes in, once."""
    batch = Batch("a", tuple(map(sample, range(5_000))))
    await store.prepare()
    for delay_s in (0, 0.0005, 0.002, 0.005, 0.01):
        # A server may turn an attempt away while the one before still runs.
        with trio.move_on_after(delay_s), suppress(StoreUnavailable):
            await store.insert(batch)
    with trio.fail_after(10):
        while not await _went_in(store, batch):
            pass
    assert [series.closed for series in await store.summary()] == [5_000]


async def _went_in(store: Store, batch: Batch) -> bool:
    try:
        await store.insert(batch)
    except StoreUnavailable:
        return False
    return True


@pytest.mark.parametrize("changes", [{"trades": 2**32}, {"version": -1}, {"symbol": "\ud800"}])
async def test_rows_that_fit_no_column_are_refused(store: Store, changes: dict[str, Any]) -> None:
    """A value too large is refused with its batch, and the next batch goes in."""
    if isinstance(store, MemoryStore):
        pytest.skip("a dictionary holds anything")
    with pytest.raises(RowsRefused):
        await store.insert(Batch("bad", (sample(0), sample(1, **changes))))
    await store.insert(Batch("good", (sample(2),)))
    assert await store.final_klines("usdm", "BTCUSDT", "1m") == [sample(2)]


async def test_rows_survive_the_store(store_url: str) -> None:
    """What was inserted is there when the store is opened again, and no table is made anew."""
    if store_url == "memory:":
        pytest.skip("memory is no place for that")
    for token in ("a", "b"):
        async with open_store(store_url) as store:
            await store.insert(Batch(token, (sample(),)))
    async with open_store(store_url) as store:
        assert await store.final_klines("usdm", "BTCUSDT", "1m") == [sample()]


async def test_label_hides_the_password(store: Store) -> None:
    """The label can be printed."""
    await store.prepare()
    assert "secret" not in store.label
