"""The oracle finds wrong rows, and ledgers that contradict the store."""

from __future__ import annotations

import pytest
from attrs import define

from klineagent.core.interval import Interval
from klineagent.core.kline import Kline, version_of
from klineagent.proof.oracle import Oracle
from klineagent.proof.plan import ProofFailed
from klineagent.series.ledger import Ledger
from klineagent.series.marks import Absence, Absent
from klineagent.storage.memory.store import MemoryStore
from klineagent.storage.store import Batch, Table
from klineagent.twin.interval import MINUTE_MS, TwinInterval
from klineagent.twin.market.aggregation import Aggregator
from klineagent.twin.market.random import RandomMarket

START_MS = 1_769_904_000_000
END_MS = START_MS + 5 * MINUTE_MS
MARKET = RandomMarket(symbols=1, seed=1, start_ms=START_MS)


def row(open_ms: int, **changes: object) -> Kline:
    """The true row of a minute of BTCUSDT, with changes."""
    candle = Aggregator(MARKET).whole("BTCUSDT", TwinInterval.M1, open_ms)
    assert candle is not None
    listing = MARKET.listings[0]
    prices, quantities = 10**listing.price_places, 10**listing.quantity_places
    quotes = 10**listing.quote_places
    return Kline(
        "usdm",
        "BTCUSDT",
        "1m",
        open_ms,
        open_ms + MINUTE_MS - 1,
        candle.open / prices,
        candle.high / prices,
        candle.low / prices,
        candle.close / prices,
        candle.volume / quantities,
        candle.quote_volume / quotes,
        candle.trades,
        candle.taker_volume / quantities,
        candle.taker_quote_volume / quotes,
        -1,
        -1,
        True,
        open_ms + MINUTE_MS,
        version_of(open_ms + MINUTE_MS, open_ms + MINUTE_MS - 1, is_closed=True),
    )._replace(**changes)  # type: ignore[arg-type]  # fields of any type


@define
class Case:
    """A store with five minutes of candles, and a ledger that covers them."""

    store: MemoryStore
    ledger: Ledger

    def check(self) -> int:
        """The number of candles that the oracle checked."""
        oracle = Oracle(market=MARKET, venue_name="usdm")
        oracle.check_series(
            self.store,
            self.ledger,
            "BTCUSDT",
            begin_ms=START_MS,
            history=0,
            end_ms=END_MS,
            set_aside=set(),
        )
        return oracle.checked


@pytest.fixture
async def case() -> Case:
    """A case without errors."""
    store, ledger = MemoryStore(), Ledger(Interval.M1, 5_000)
    rows = [row(open_ms) for open_ms in range(START_MS, END_MS, MINUTE_MS)]
    await store.insert(Batch(klines=tuple(rows), token="all", table=Table.KLINES))
    ledger.begin(START_MS)
    for each in rows:
        ledger.close(each.open_time, now_ms=0)
    return Case(store, ledger)


async def test_correct_candles_are_counted(case: Case) -> None:
    """Each candle counts once."""
    assert case.check() == 5


async def test_a_wrong_row_with_the_highest_version_is_found(case: Case) -> None:
    """Readers of the table would get it."""
    wrong = row(START_MS)._replace(high=1.0, version=1 << 60)
    await case.store.insert(Batch(klines=(wrong,), token="wrong", table=Table.KLINES))
    with pytest.raises(ProofFailed, match="00:00:00 is wrong"):
        case.check()


async def test_a_forming_row_with_the_highest_version_is_a_missing_candle(case: Case) -> None:
    """It is not among the table's closed candles."""
    forming = row(START_MS)._replace(is_closed=False, version=1 << 60)
    await case.store.insert(Batch(klines=(forming,), token="forming", table=Table.KLINES))
    with pytest.raises(ProofFailed, match="00:00:00 is missing"):
        case.check()


async def test_a_ledger_that_contradicts_the_store_is_found(case: Case) -> None:
    """A candle it calls missing or absent must not be stored."""
    case.ledger.reopen(START_MS, now_ms=0)
    with pytest.raises(ProofFailed, match="but the ledger calls it missing"):
        case.check()
    case.ledger.give_up(START_MS, START_MS + MINUTE_MS, Absence(Absent.NO_CANDLE))
    with pytest.raises(ProofFailed, match="but the ledger calls it absent"):
        case.check()


def test_a_row_off_the_grid_is_made_up() -> None:
    """Even though the market has a candle at that time."""
    with pytest.raises(ProofFailed, match="was made up"):
        Oracle(market=MARKET, venue_name="usdm").examine((row(START_MS, open_time=START_MS + 7),))
