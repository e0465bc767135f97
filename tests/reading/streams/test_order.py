"""The order of a series' events."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from klineagent.core.interval import MINUTE_MS, Interval
from klineagent.exchange.venues import USDM
from klineagent.reading.streams.events import CandleEvent, EventFormat
from klineagent.reading.streams.order import CandleOrder
from tests.klines import OPEN_MS, a_kline

Sent = list[tuple[int, bool]]


def state(minute: int, *, is_closed: bool, after_ms: int = 30_000) -> CandleEvent:
    """A state of a candle."""
    kline = a_kline(minute, is_closed=is_closed, after_ms=60_050 if is_closed else after_ms)
    return CandleEvent(kline, None, lambda _: EventFormat.of(None, USDM))


def closing(minute: int) -> CandleEvent:
    """The closing event of a candle."""
    return state(minute, is_closed=True)


def forming(minute: int, after_ms: int = 30_000) -> CandleEvent:
    """A state of a forming candle."""
    return state(minute, is_closed=False, after_ms=after_ms)


def told(events: list[CandleEvent]) -> Sent:
    """Minute of each event, and whether it closes."""
    return [((each.open_ms - OPEN_MS) // MINUTE_MS, each.is_closing) for each in events]


def test_a_missed_candle_comes_before_the_next() -> None:
    """What came meanwhile waits: the closing events, and the newest forming state."""
    order = CandleOrder(Interval.M1)
    assert told(order.put(forming(0))) == [(0, False)]
    assert told(order.put(closing(0))) == [(0, True)]
    assert order.put(forming(3, 1_000)) == []
    assert order.put(closing(3)) == []
    assert order.put(forming(4)) == []
    assert order.awaited == (OPEN_MS + MINUTE_MS, OPEN_MS + 3 * MINUTE_MS)
    assert told(order.put(closing(2))) == []
    assert told(order.put(closing(1))) == [(1, True), (2, True), (3, True), (4, False)]


def test_what_was_given_up_may_come_late_once() -> None:
    """A bot learns of the candle, even after newer ones."""
    order = CandleOrder(Interval.M1)
    order.put(closing(0))
    order.put(forming(2))
    assert told(order.skip()) == [(2, False)]
    assert told(order.put(closing(1))) == [(1, True)]
    assert order.put(closing(1)) == []
    assert told(order.put(closing(2))) == [(2, True)]
    assert order.skip() == []


def test_a_candle_closes_once() -> None:
    """While one connection takes over from another both carry the event; older states are void."""
    order = CandleOrder(Interval.M1)
    assert told([*order.put(closing(0)), *order.put(closing(0))]) == [(0, True)]
    assert order.put(forming(0)) == []
    assert told(order.put(forming(1, 9_000))) == [(1, False)]
    assert order.put(forming(1, 8_000)) == []


def test_months_follow_one_another() -> None:
    """Candles need not be of equal length."""
    order = CandleOrder(Interval.MO1)
    january = closing(0)
    february_ms = Interval.MO1.next_open(january.open_ms)
    order.put(january)
    next_month = january.kline._replace(open_time=february_ms)
    event = CandleEvent(next_month, None, lambda _: EventFormat.of(None, USDM))
    assert order.put(event) == [event]


@given(st.lists(st.tuples(st.integers(0, 8), st.booleans(), st.booleans()), max_size=60))
def test_whatever_comes(steps: list[tuple[int, bool, bool]]) -> None:
    """Each candle closes once at most; unless some were given up, open times never go back."""
    order, sent, skips = CandleOrder(Interval.M1), [], 0
    for minute, is_closed, gives_up in steps:
        sent += told(order.put(state(minute, is_closed=is_closed)))
        if gives_up and order.awaited:
            skips += 1
            sent += told(order.skip())
    closed = [minute for minute, is_closing in sent if is_closing]
    assert len(closed) == len({*closed})
    if not skips:
        assert [minute for minute, _ in sent] == sorted(minute for minute, _ in sent)
        first = sent[0][0] if sent else 0
        assert closed == [*range(first, first + len(closed))]
