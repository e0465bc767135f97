"""The contract of every store for table `kline_updates`."""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

import pytest
import trio

from klineagent.core.errors import RowsRefused, StoreMisconfigured
from klineagent.core.interval import DAY_MS, Interval
from klineagent.core.kline import Kline, version_of
from klineagent.storage.clickhouse.embedded import EmbeddedStore
from klineagent.storage.clickhouse.server import ClickHouseStore
from klineagent.storage.clickhouse.tables.schema import LEGACY
from klineagent.storage.memory.store import MemoryStore
from klineagent.storage.opening import open_store
from klineagent.storage.store import Batch, Store, Table
from tests.servers import free_port, installed_clickhouse
from tests.storage.samples import sample
from tests.storage.test_store import rows_of

# The servers' clock decides what is too old to be kept, so these candles are of today.
TODAY = Interval.D1.open_at(time.time_ns() // 1_000_000)


def state(minute: int, event: int, *, is_closed: bool = False, **changes: object) -> Kline:
    """The state of one of today's candles `event` ms after its open."""
    open_ms = TODAY + minute * 60_000
    return sample(
        open_time=open_ms,
        close_time=open_ms + 59_999,
        close=float(event),
        is_closed=is_closed,
        event_time=open_ms + event,
        version=version_of(open_ms + event, open_ms + 59_999, is_closed=is_closed),
    )._replace(**changes)  # type: ignore[arg-type]  # named fields of any type


def updates(token: str, *klines: Kline) -> Batch:
    """A batch for the table."""
    return Batch(token, klines, Table.UPDATES)


async def tables_of(store: Store) -> set[str]:
    """What there is in the database."""
    match store:
        case ClickHouseStore():
            database = store._server.database
        case EmbeddedStore():
            database = "market"
    rows = await rows_of(store, f"SELECT name FROM system.tables WHERE database = '{database}'")
    return {name for (name,) in rows}


async def test_every_state_is_there_once(store: Store) -> None:
    """Shuffled, duplicated and resent, in order of open and event time."""
    chance = random.Random(11)
    truth = [
        state(minute, event, is_closed=event == 60_000)
        for minute in (-1440, 0, 1, 2)  # of two days, so of two partitions
        for event in (*sorted(chance.sample(range(1, 60_000), 20)), 60_000)
    ]
    sent = truth + chance.sample(truth, 30)
    chance.shuffle(sent)
    batches = [updates(f"b{at}", *sent[at : at + 17]) for at in range(0, len(sent), 17)]
    for batch in batches + chance.sample(batches, len(batches) // 2):
        await store.insert(batch)
    assert await store.updates("usdm", "BTCUSDT", "1m") == truth
    assert await store.updates("usdm", "BTCUSDT", "1m", newest=30) == truth[-30:]


async def test_closing_and_last_growing_state_of_one_moment_are_two(store: Store) -> None:
    """They differ in their version alone."""
    states = [state(0, 60_000), state(0, 60_000, is_closed=True)]
    await store.insert(updates("a", *reversed(states)))
    assert await store.updates("usdm", "BTCUSDT", "1m") == states


async def test_the_tables_do_not_mix(store: Store) -> None:
    """What is for one table does not show in the other, under one token neither."""
    await store.insert(updates("a", state(0, 60_000, is_closed=True)))
    await store.insert(Batch("a", (state(1, 60_000, is_closed=True),)))
    assert await store.updates("usdm", "BTCUSDT", "1m") == [state(0, 60_000, is_closed=True)]
    assert await store.final_klines("usdm", "BTCUSDT", "1m") == [state(1, 60_000, is_closed=True)]
    [coverage] = await store.coverage("usdm", {"1m": 0}, ["BTCUSDT"])
    assert coverage.runs == ((TODAY + 60_000, TODAY + 60_000),)


async def test_states_of_another_series_stay_out(store: Store) -> None:
    """A series is its venue, its symbol and its interval."""
    others = [
        state(0, 5, symbol="ETHUSDT"),
        state(0, 5, venue="spot"),
        state(0, 5, interval="1M", close_time=TODAY + 30 * DAY_MS),
    ]
    await store.insert(updates("a", *others, state(0, 5)))
    assert await store.updates("usdm", "BTCUSDT", "1m") == [state(0, 5)]
    assert await store.updates("usdm", "BTCUSDT", "1M") == [others[2]]


async def test_no_table_is_an_empty_one(store: Store) -> None:
    """Reading makes nothing, and neither do klines or an empty batch."""
    await store.insert(Batch("a", (sample(),)))
    await store.insert(updates("b"))
    assert await store.updates("usdm", "BTCUSDT", "1m") == []
    if not isinstance(store, MemoryStore):
        assert await tables_of(store) == {"klines", "klines_final", "agents", "klineagent_schema"}
        await store.insert(updates("c", state(0, 5)))
        assert "kline_updates" in await tables_of(store)


async def test_every_field_comes_back_as_it_went(store: Store) -> None:
    """With the types of `Kline`."""
    await store.insert(updates("a", state(0, 5, trades=2**32 - 1, first_trade_id=-1)))
    [kline] = await store.updates("usdm", "BTCUSDT", "1m")
    assert kline == state(0, 5, trades=2**32 - 1, first_trade_id=-1)
    assert [type(value) for value in kline] == [type(value) for value in sample()]


async def test_rows_that_fit_no_column_are_refused(store: Store) -> None:
    """As in table `klines`."""
    if isinstance(store, MemoryStore):
        pytest.skip("a dictionary holds anything")
    with pytest.raises(RowsRefused):
        await store.insert(updates("bad", state(0, 5), state(0, 6, trades=2**32)))
    await store.insert(updates("good", state(0, 7)))
    assert await store.updates("usdm", "BTCUSDT", "1m") == [state(0, 7)]


async def test_states_survive_the_store(real_store_url: str) -> None:
    """An existing table is gone on with."""
    for token in ("a", "b"):
        async with open_store(real_store_url) as store:
            await store.insert(updates(token, state(0, 5)))
            await store.insert(updates(f"{token}2", state(0, 6)))
    async with open_store(real_store_url) as store:
        assert await store.updates("usdm", "BTCUSDT", "1m") == [state(0, 5), state(0, 6)]


async def test_foreign_table_is_the_operators(real_store_url: str) -> None:
    """A table of that name without our columns is neither written to nor read; klines go on."""
    async with open_store(real_store_url) as store:
        await store.insert(Batch("a", (sample(),)))
        columns = "(`day` Date, `venue` String) ENGINE = MergeTree(`day`, (`venue`), 8192)"
        layout = store._layout  # type: ignore[attr-defined]  # only the memory store has none
        if layout.dialect is not LEGACY:
            columns = "(`venue` String) ENGINE = MergeTree ORDER BY `venue`"
        await rows_of(store, f"CREATE TABLE {{db}}.kline_updates {columns}")
        with pytest.raises(StoreMisconfigured, match=r"kline_updates has no .*is_closed"):
            await store.insert(updates("b", state(0, 5)))
        with pytest.raises(StoreMisconfigured, match="kline_updates has no"):
            await store.updates("usdm", "BTCUSDT", "1m")
        await store.insert(Batch("c", (sample(1),)))
        assert len(await store.final_klines("usdm", "BTCUSDT", "1m")) == 2


async def test_an_old_server_starts_again_with_the_table(tmp_path: Path) -> None:
    """18.16 can read the stored DDL again."""
    port = free_port()
    async with open_store(f"clickhouse://default:secret@127.0.0.1:{port}/market") as store:
        with installed_clickhouse(tmp_path, port=port):
            await store.insert(updates("a", state(0, 5)))
        with installed_clickhouse(tmp_path, port=port):
            await store.insert(updates("b", state(0, 6)))
            assert await store.updates("usdm", "BTCUSDT", "1m") == [state(0, 5), state(0, 6)]


async def test_show_tells_the_newest_states(real_store_url: str) -> None:
    """A line each, within 80 columns: the candle, its event time, and whether it was closed."""
    async with open_store(real_store_url) as store:
        await store.insert(updates("a", state(0, 5), state(0, 2_000), state(1, 60_000)))
        await store.insert(updates("b", state(1, 60_000, is_closed=True)))
    command = [sys.executable, "-m", "klineagent", "show", "btcusdt", "--updates", "--last", "3"]
    shown = await trio.run_process([*command, "--store", real_store_url], capture_stdout=True)
    lines = shown.stdout.decode().splitlines()
    assert [line.split()[1:2] + line.split()[3:] for line in lines[-4:] if line.strip()] == [
        ["00:00", "00:00:02", "69100.2", "68900.3", "2000", "12.345", "321"],
        ["00:01", "00:02:00", "69100.2", "68900.3", "60000", "12.345", "321"],
        ["00:01", "00:02:00", "69100.2", "68900.3", "60000", "12.345", "321", "closed"],
    ]
    assert max(map(len, lines)) <= 80


async def test_what_is_older_than_two_weeks_goes(real_store_url: str) -> None:
    """Counted from the event time, so a candle that still forms keeps its newest states."""
    month_ms = TODAY - 20 * DAY_MS
    forming = [
        state(0, 5, interval="1M", open_time=month_ms, event_time=month_ms + day * DAY_MS)
        for day in (1, 19)
    ]
    async with open_store(real_store_url) as store:
        await store.insert(updates("a", state(-30 * 1440, 5), state(0, 5), *forming))
        if store._layout.dialect is LEGACY:  # type: ignore[attr-defined]  # as above
            pytest.skip("this server knows no TTL of tables")
        await rows_of(store, "OPTIMIZE TABLE {db}.kline_updates FINAL")
        assert await store.updates("usdm", "BTCUSDT", "1m") == [state(0, 5)]
        assert await store.updates("usdm", "BTCUSDT", "1M") == forming[1:]
