from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, ExitStack

import pytest
import trio
from trio.testing import MockClock

from klineagent.core.errors import (
    RowsRefused,
    StoreMisconfigured,
    StoreOverloaded,
    StoreUnavailable,
)
from klineagent.core.kline import Kline
from klineagent.storage.memory.store import TOKENS_KNOWN, MemoryStore
from klineagent.storage.store import Batch, Table
from tests.storage.samples import FIRST_OPEN, sample, update
from tests.storage.test_store import HEARTBEAT

BATCH = Batch("a", (sample(),))
UPDATES = Batch("b", (update(0, 5),), Table.UPDATES)


def calls(store: MemoryStore) -> list[Callable[[], Awaitable[object]]]:
    """Every call there is."""
    return [
        store.prepare,
        lambda: store.insert(BATCH),
        lambda: store.insert(UPDATES),
        lambda: store.record_agent(HEARTBEAT),
        store.summary,
        lambda: store.final_klines("usdm", "BTCUSDT", "1m"),
        lambda: store.final_kline("usdm", "BTCUSDT", "1m", FIRST_OPEN),
        lambda: store.coverage("usdm", {"1m": 0}, ["BTCUSDT"]),
        lambda: store.stored_runs("usdm", "BTCUSDT", "1m", FIRST_OPEN, FIRST_OPEN + 60_000),
        lambda: store.updates("usdm", "BTCUSDT", "1m"),
    ]


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (MemoryStore.offline, StoreUnavailable),
        (MemoryStore.overloaded, StoreOverloaded),
        (MemoryStore.misconfigured, StoreMisconfigured),
    ],
)
async def test_a_store_that_is_away_stores_nothing(
    fault: Callable[[MemoryStore], AbstractContextManager[None]], error: type[Exception]
) -> None:
    """Until the block ends every call fails in its way; then the same batch goes in."""
    store = MemoryStore()
    with fault(store):
        for call in calls(store):
            with pytest.raises(error) as caught:
                await call()
            assert type(caught.value) is error
    assert (store.klines, store.states, store.agents) == ({}, {}, {})
    await store.insert(BATCH)
    assert await store.final_klines("usdm", "BTCUSDT", "1m") == [sample()]


async def test_a_lost_answer_hides_that_the_rows_are_stored() -> None:
    """Every call fails after it was carried out; the same batch sent again does no harm."""
    store = MemoryStore()
    with store.losing_answers():
        for call in calls(store):
            with pytest.raises(StoreUnavailable):
                await call()
    await store.insert(BATCH)
    assert await store.final_klines("usdm", "BTCUSDT", "1m") == [sample()]
    assert await store.updates("usdm", "BTCUSDT", "1m") == [update(0, 5)]
    assert list(store.agents.values()) == [HEARTBEAT]


async def test_a_slow_store_takes_its_time(autojump_clock: MockClock) -> None:
    """Every call takes longer, and rows are not there before."""
    store = MemoryStore()
    with store.slow(3), store.slow(0.5):
        for call in calls(store):
            began = trio.current_time()
            await call()
            assert trio.current_time() == began + 3.5
        with trio.move_on_after(3):
            await store.insert(Batch("c", (sample(1),)))
    assert await store.final_klines("usdm", "BTCUSDT", "1m") == [sample()]


async def test_an_outage_that_begins_while_a_call_waits_meets_it(
    autojump_clock: MockClock,
) -> None:
    """Faults that are active after the delay count."""
    store = MemoryStore()
    with ExitStack() as later, store.slow(2):

        async def fail_later() -> None:
            await trio.sleep(1)
            later.enter_context(store.offline())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail_later)
            with pytest.raises(StoreUnavailable):
                await store.insert(BATCH)
    assert store.klines == {}


async def test_one_refused_row_refuses_its_batch() -> None:
    """In whichever table, and nothing of the batch is stored; others go in."""
    store = MemoryStore()

    def is_second(kline: Kline) -> bool:
        return kline.open_time == sample(1).open_time

    with store.refusing(is_second):
        for table in Table:
            with pytest.raises(RowsRefused):
                await store.insert(Batch("bad", (sample(0), sample(1)), table))
            await store.insert(Batch("good", (sample(2),), table))
    assert list(store.klines.values()) == list(store.states.values()) == [sample(2)]
    await store.insert(Batch("bad", (sample(0), sample(1))))
    assert len(store.klines) == 3


async def test_faults_overlap() -> None:
    """Each lasts as long as its own block, however they interleave."""
    store = MemoryStore()
    offline, overloaded, lost = ExitStack(), ExitStack(), ExitStack()
    lost.enter_context(store.losing_answers())
    overloaded.enter_context(store.overloaded())
    offline.enter_context(store.offline())
    with store.refusing(lambda kline: kline.trades == 0):
        with pytest.raises(StoreUnavailable):
            await store.insert(BATCH)
        offline.close()
        with pytest.raises(StoreOverloaded):
            await store.insert(BATCH)
        overloaded.close()
        assert store.klines == {}
        with pytest.raises(RowsRefused):
            await store.insert(Batch("bad", (sample(trades=0),)))
        with pytest.raises(StoreUnavailable):
            await store.insert(BATCH)
        lost.close()
    assert await store.final_klines("usdm", "BTCUSDT", "1m") == [sample()]


async def test_outages_nest() -> None:
    """The store is back when the last of several outages ended."""
    store = MemoryStore()
    with store.offline():
        with store.offline():
            pass
        with pytest.raises(StoreUnavailable):
            await store.summary()
    assert await store.summary() == []


async def test_known_token_is_dropped_whatever_comes_with_it() -> None:
    """As in the databases, rows under a known token are ignored."""
    store = MemoryStore()
    await store.insert(Batch("a", (sample(0),)))
    await store.insert(Batch("a", (sample(1),)))
    assert await store.final_klines("usdm", "BTCUSDT", "1m") == [sample(0)]


async def test_tokens_are_forgotten_as_on_a_server() -> None:
    """A table knows the newest ten thousand; rows under an older token are stored again."""
    store = MemoryStore()
    await store.insert(Batch("first", (sample(0),)))
    for number in range(TOKENS_KNOWN - 1):
        await store.insert(Batch(str(number), ()))
    await store.insert(Batch("first", (sample(1),)))
    assert list(store.klines.values()) == [sample(0)]
    await store.insert(Batch("one more", ()))
    await store.insert(Batch("first", (sample(1),)))
    assert list(store.klines.values()) == [sample(0), sample(1)]


async def test_cancelled_insert_stores_nothing() -> None:
    """An insert happens completely, or is cancelled before it begins."""
    store = MemoryStore()
    with trio.CancelScope() as scope:
        scope.cancel()
        await store.insert(Batch("a", (sample(),)))
    assert store.klines == {}


async def test_open_candles_can_be_looked_at() -> None:
    """Simulations see open candles too."""
    store = MemoryStore()
    await store.insert(Batch("a", (update(0, 5), update(0, 9))))
    assert list(store.klines.values()) == [update(0, 9)]
