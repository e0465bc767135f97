from __future__ import annotations

import pytest
import trio

from klineagent.errors import StoreUnavailable
from klineagent.storage.memory import MemoryStore
from klineagent.storage.store import Batch
from tests.storage.samples import sample, update
from tests.storage.test_store import HEARTBEAT


async def test_offline_answers_nothing_and_stores_nothing() -> None:
    """Until the block ends every call fails; then the same batch goes in."""
    store = MemoryStore()
    batch = Batch("a", (sample(),))
    with store.offline():
        for call in (
            store.prepare,
            lambda: store.insert(batch),
            lambda: store.record_agent(HEARTBEAT),
            store.summary,
            lambda: store.final_klines("usdm", "BTCUSDT", "1m"),
        ):
            with pytest.raises(StoreUnavailable):
                await call()
    assert store.klines == {}
    assert store.agents == {}
    await store.insert(batch)
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
    """As the databases do, other rows under a token once seen are not looked at."""
    store = MemoryStore()
    await store.insert(Batch("a", (sample(0),)))
    await store.insert(Batch("a", (sample(1),)))
    assert await store.final_klines("usdm", "BTCUSDT", "1m") == [sample(0)]


async def test_cancelled_insert_stores_nothing() -> None:
    """An insert either happened whole or was cancelled before it began."""
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
