from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st

from klineagent.twin.interval import DAY_MS, HOUR_MS, MINUTE_MS, TwinInterval
from klineagent.twin.market.aggregation import Aggregator
from klineagent.twin.market.candle import Candle, flat, grown, second_of
from klineagent.twin.market.listings import Coin, list_coin
from klineagent.twin.market.market import Listing

FIRST_MS = 1_769_904_000_000 - 2 * HOUR_MS  # two hours before a month begins

# From minutes on; seconds are parts of one.
intervals = st.sampled_from([each for each in TwinInterval if each is not TwinInterval.S1])


@frozen
class ListedMinutes:
    """A market of one symbol with given minutes; None is a gap."""

    minutes: tuple[Candle | None, ...]
    start_ms: int = FIRST_MS
    end_ms: None = None
    tick_ms: None = None

    @property
    def listings(self) -> tuple[Listing, ...]:
        """The one symbol."""
        return (list_coin(Coin("BTC", 1, 2, 3), "usdm", FIRST_MS),)

    def minute(self, _symbol: str, open_ms: int) -> Candle | None:
        """See `Market`."""
        index = (open_ms - FIRST_MS) // MINUTE_MS
        return self.minutes[index] if 0 <= index < len(self.minutes) else None


@st.composite
def markets(draw: st.DrawFn) -> ListedMinutes:
    """Up to five hours of minutes: traded, quiet and missing ones."""
    values = draw(
        st.lists(st.one_of(st.none(), st.just(0), st.integers(1, 10**6)), min_size=1, max_size=300)
    )
    return ListedMinutes(
        tuple(
            None if value is None else _minute(FIRST_MS + number * MINUTE_MS, value)
            for number, value in enumerate(values)
        )
    )


def _minute(open_ms: int, value: int) -> Candle:
    if not value:
        return flat(open_ms, 500)
    opened, closed = 1_000 + value % 97, 1_000 + value % 89
    high, low = max(opened, closed) + value % 7, min(opened, closed) - value % 5
    trades = 1 + value % 50
    return Candle(
        open_ms,
        opened,
        high,
        low,
        closed,
        value,
        value * 3,
        trades,
        value // 2,
        value,
        9,
        8 + trades,
    )


def _by_definition(minutes: Iterable[Candle], open_ms: int) -> Candle | None:
    """The expected candle of a longer interval; prices come from trades only."""
    present = list(minutes)
    if not present:
        return None
    traded = [minute for minute in present if minute.trades]
    if not traded:
        return flat(open_ms, present[0].open)
    return Candle(
        open_ms,
        traded[0].open,
        max(minute.high for minute in traded),
        min(minute.low for minute in traded),
        traded[-1].close,
        sum(minute.volume for minute in traded),
        sum(minute.quote_volume for minute in traded),
        sum(minute.trades for minute in traded),
        sum(minute.taker_volume for minute in traded),
        sum(minute.taker_quote_volume for minute in traded),
        traded[0].first_trade,
        traded[-1].last_trade,
    )


@given(markets(), intervals)
def test_closed_candles_aggregate_their_minutes(
    market: ListedMinutes, interval: TwinInterval
) -> None:
    """Every interval's candle equals the aggregate of its 1m candles."""
    aggregator = Aggregator(market)
    open_ms = interval.open_at(FIRST_MS)
    while open_ms < FIRST_MS + len(market.minutes) * MINUTE_MS:
        end_ms = interval.next_open(open_ms)
        inside = [m for m in market.minutes if m is not None and open_ms <= m.open_time < end_ms]
        assert aggregator.whole("BTCUSDT", interval, open_ms) == _by_definition(inside, open_ms)
        open_ms = end_ms


@given(markets(), intervals, st.lists(st.integers(0, 5 * HOUR_MS), min_size=1, max_size=6))
def test_forming_candles_aggregate_the_minutes_so_far(
    market: ListedMinutes, interval: TwinInterval, moments: list[int]
) -> None:
    """At any time, in any order, the forming candle is its closed minutes plus the forming one."""
    aggregator = Aggregator(market)
    for moment in moments:
        now_ms = FIRST_MS + moment
        open_ms, minute_open = interval.open_at(now_ms), TwinInterval.M1.open_at(now_ms)
        inside = [
            m for m in market.minutes if m is not None and open_ms <= m.open_time < minute_open
        ]
        growing = market.minute("BTCUSDT", minute_open)
        if growing is not None:
            inside.append(grown(growing, max(1, now_ms - minute_open)))
        assert aggregator.forming("BTCUSDT", interval, now_ms) == _by_definition(inside, open_ms)


def test_a_forming_candle_follows_minute_by_minute() -> None:
    """Queried each minute of an hour, the candle has the trades of all its minutes."""
    market = ListedMinutes(
        tuple(_minute(FIRST_MS + number * MINUTE_MS, number + 1) for number in range(60))
    )
    aggregator = Aggregator(market)
    for number in range(60):
        now_ms = FIRST_MS + number * MINUTE_MS + 59_999
        candle = aggregator.forming("BTCUSDT", TwinInterval.H1, now_ms)
        assert candle is not None
        assert candle.volume == sum(range(1, number + 2))


def test_between_ends_with_the_candle_that_forms() -> None:
    """A range has closed candles up to now, then the forming one, and no later ones."""
    market = ListedMinutes(
        tuple(_minute(FIRST_MS + number * MINUTE_MS, number + 1) for number in range(20))
    )
    aggregator = Aggregator(market)
    now_ms = FIRST_MS + 12 * MINUTE_MS + 30_000
    candles = list(aggregator.between("BTCUSDT", TwinInterval.M5, 0, FIRST_MS + DAY_MS, now_ms))
    assert [candle.open_time for candle in candles] == [
        FIRST_MS,
        FIRST_MS + 5 * MINUTE_MS,
        FIRST_MS + 10 * MINUTE_MS,
    ]
    assert candles[0] == aggregator.whole("BTCUSDT", TwinInterval.M5, FIRST_MS)
    assert candles[2] == aggregator.forming("BTCUSDT", TwinInterval.M5, now_ms)


@given(markets(), st.integers(0, 5 * HOUR_MS))
def test_seconds_are_parts_of_their_minute(market: ListedMinutes, moment: int) -> None:
    """A minute without a candle has no seconds; the one that forms is complete from its begin."""
    aggregator, now_ms = Aggregator(market), FIRST_MS + moment
    minute = market.minute("BTCUSDT", TwinInterval.M1.open_at(now_ms))
    second = aggregator.forming("BTCUSDT", TwinInterval.S1, now_ms)
    assert second == (minute and second_of(minute, now_ms % MINUTE_MS // 1_000))
    open_ms = TwinInterval.S1.open_at(now_ms)
    assert second == aggregator.whole("BTCUSDT", TwinInterval.S1, open_ms)


def test_a_symbol_that_does_not_trade_has_no_candles() -> None:
    """Listed or not."""
    aggregator = Aggregator(ListedMinutes(()))
    assert not list(aggregator.between("OMGUSDT", TwinInterval.M1, 0, FIRST_MS, FIRST_MS))
