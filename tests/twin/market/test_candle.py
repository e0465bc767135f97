from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from klineagent.core.interval import MINUTE_MS
from klineagent.twin.market.candle import Candle, flat, from_text, grown, merge, second_of, to_text

amounts = st.integers(0, 10**12)


@st.composite
def minutes(draw: st.DrawFn) -> Candle:
    """1m candles with trades."""
    low, opened, closed, high = (
        draw(st.integers(1, 10**9)),
        *(draw(st.integers(0, 10**6)) for _ in range(3)),
    )
    volume, quote, trades = draw(amounts), draw(amounts), draw(st.integers(1, 10**6))
    return Candle(
        0,
        low + opened,
        low + max(opened, closed) + high,
        low,
        low + closed,
        volume,
        quote,
        trades,
        draw(st.integers(0, volume)),
        draw(st.integers(0, quote)),
        1_000,
        1_000 + trades - 1,
    )


@given(minutes())
def test_a_candle_that_grew_for_its_minute_is_the_candle(minute: Candle) -> None:
    """After the full minute every field has its final value."""
    assert grown(minute, MINUTE_MS) == minute


@given(minutes(), st.integers(1, MINUTE_MS), st.integers(1, MINUTE_MS))
def test_states_of_a_forming_candle_are_consistent(minute: Candle, one: int, other: int) -> None:
    """Amounts and highs never fall, lows never rise, and the price stays between them."""
    earlier, later = grown(minute, min(one, other)), grown(minute, max(one, other))
    assert earlier.open == later.open == minute.open
    assert earlier.high <= later.high <= minute.high
    assert earlier.low >= later.low >= minute.low
    assert later.low <= later.close <= later.high
    for name in ("volume", "quote_volume", "trades", "taker_volume", "taker_quote_volume"):
        assert getattr(earlier, name) <= getattr(later, name) <= getattr(minute, name)
    assert later.taker_volume <= later.volume
    assert earlier.last_trade <= later.last_trade <= minute.last_trade


@given(minutes())
def test_the_seconds_of_a_minute_merge_to_it(minute: Candle) -> None:
    """They follow each other in time, price and trade ids, and none is contradictory."""
    seconds = [second_of(minute, number) for number in range(60)]
    merged: Candle | None = None
    for each in seconds:
        merged = merge(merged, each)
    assert merged == minute
    assert [each.open_time for each in seconds] == [*range(0, MINUTE_MS, 1_000)]
    for earlier, later in pairwise(seconds):
        assert later.open == earlier.close
    for each in seconds:
        assert each.low <= min(each.open, each.close)
        assert max(each.open, each.close) <= each.high
        assert 0 <= each.taker_volume <= each.volume
        assert 0 <= each.taker_quote_volume <= each.quote_volume
        assert each.trades or each == flat(each.open_time, each.open)


def test_a_second_of_a_quiet_minute_is_flat() -> None:
    """At the last price, as longer candles without trades are."""
    assert second_of(flat(60_000, 105), 3) == flat(63_000, 105)


@given(minutes(), st.integers(0, 59))
def test_a_second_stays_within_its_minutes_path(minute: Candle, number: int) -> None:
    """So far its minute has been as high and as low."""
    so_far = grown(minute, (number + 1) * 1_000)
    if minute.trades >= 60:
        second = second_of(minute, number)
        assert so_far.low <= second.low <= second.high <= so_far.high
        assert second.close == so_far.close
        assert second.last_trade == so_far.last_trade


def test_a_candle_trades_from_its_first_millisecond() -> None:
    """A minute with trades has one at once, with its volume."""
    minute = Candle(0, 5, 9, 3, 7, 100, 500, 60, 40, 200, 11, 70)
    young = grown(minute, 1)
    assert (young.trades, young.first_trade, young.last_trade) == (1, 11, 11)
    assert young.volume >= 1


def test_a_flat_candle_does_not_change_prices() -> None:
    """Merging with a quiet minute keeps the prices of trades."""
    traded = Candle(60_000, 105, 110, 104, 108, 1, 2, 3, 1, 1, 7, 9)
    assert merge(flat(0, 100), traded) == traded._replace(open_time=0)
    assert merge(traded, flat(120_000, 108)) == traded
    assert merge(flat(0, 100), flat(60_000, 100)) == flat(0, 100)
    assert merge(None, None) is None


@given(st.integers(0, 10**18), st.integers(0, 8))
def test_text_has_every_decimal_place_and_reads_back(scaled: int, places: int) -> None:
    """Scaled integers survive printing, with a fixed number of decimals."""
    text = to_text(scaled, places)
    assert from_text(text, places) == scaled
    assert len(text.partition(".")[2]) == places
