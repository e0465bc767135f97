import pytest
from hypothesis import given
from hypothesis import strategies as st

from klineagent.core.interval import DAY_MS, MINUTE_MS
from klineagent.twin.market.candle import Candle
from klineagent.twin.market.random import RandomMarket

START = 1_769_904_000_000


def run_of(market: RandomMarket, symbol: str, first: int, count: int) -> list[Candle]:
    """Candles of `count` minutes, `first` minutes after the start."""
    candles = [
        market.minute(symbol, START + minute * MINUTE_MS) for minute in range(first, first + count)
    ]
    return [candle for candle in candles if candle is not None]


@given(st.integers(0, 5 * 365 * 1_440), st.integers(0, 2**31))
def test_a_candle_needs_no_past(minute: int, seed: int) -> None:
    """A fresh market has the same candle as one that was queried for all before it."""
    fresh = RandomMarket(symbols=3, seed=seed, start_ms=START)
    other = RandomMarket(symbols=5, seed=seed, start_ms=START)
    earlier = run_of(other, "SOLUSDT", minute - 3 if minute > 3 else 0, 10)
    asked = fresh.minute("SOLUSDT", START + minute * MINUTE_MS)
    assert asked in earlier


@pytest.mark.parametrize("venue_name", ["usdm", "coinm", "spot"])
def test_candles_fit_together(venue_name: str) -> None:
    """Each opens at the last close, trade ids continue, and numbers are consistent."""
    market = RandomMarket(symbols=4, seed=1, start_ms=START, venue_name=venue_name)
    for listing in market.listings:
        last: Candle | None = None
        next_trade = None
        for candle in run_of(market, listing.symbol, 0, 500):
            assert 0 < candle.low <= min(candle.open, candle.close)
            assert max(candle.open, candle.close) <= candle.high
            assert 0 <= candle.taker_volume <= candle.volume
            assert 0 <= candle.taker_quote_volume <= candle.quote_volume
            if last is not None:
                assert candle.open == last.close
            last = candle
            if not candle.trades:
                assert (candle.first_trade, candle.last_trade, candle.volume) == (-1, -1, 0)
                assert candle.high == candle.low == candle.close
                continue
            assert candle.volume > 0
            assert candle.last_trade - candle.first_trade + 1 == candle.trades
            assert next_trade in {None, candle.first_trade}
            next_trade = candle.last_trade + 1


def test_only_a_few_symbols_have_quiet_minutes() -> None:
    """The third symbol has quiet minutes, the first has none."""
    market = RandomMarket(symbols=3, seed=1, start_ms=START)
    assert all(candle.trades for candle in run_of(market, "BTCUSDT", 0, 500))
    quiet = sum(not candle.trades for candle in run_of(market, "SOLUSDT", 0, 500))
    assert 50 < quiet < 200


def test_another_seed_is_another_market() -> None:
    """Prices depend on seed and symbol."""
    one, other = (RandomMarket(symbols=2, seed=seed, start_ms=START) for seed in (1, 2))
    assert one.minute("BTCUSDT", START) != other.minute("BTCUSDT", START)


def test_there_is_nothing_before_the_listing() -> None:
    """History begins when the symbol was listed, and unknown symbols have none."""
    market = RandomMarket(symbols=1, seed=1, start_ms=START)
    assert market.minute("BTCUSDT", START - DAY_MS) is not None
    assert market.minute("BTCUSDT", START - DAY_MS - MINUTE_MS) is None
    assert market.minute("NOSUCHUSDT", START) is None


def test_symbols_are_as_many_as_wanted_and_all_different() -> None:
    """Beyond the well-known coins names are generated."""
    market = RandomMarket(symbols=600, seed=1, start_ms=START)
    ordinary = [
        listing.symbol
        for listing in market.listings
        if listing.contract_type == "PERPETUAL" and listing.symbol.isascii()
    ]
    assert len(set(ordinary)) == len(ordinary) == 600
    assert ordinary[:2] == ["BTCUSDT", "ETHUSDT"]
    assert max(map(len, ordinary)) <= 17
