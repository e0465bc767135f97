"""Updates waiting for the store."""

from __future__ import annotations

from klineagent.storage.writing.buffer import Updates
from tests.klines import a_kline


def test_states_leave_in_the_order_they_came() -> None:
    """Each of them, also those of one candle."""
    updates = Updates(10)
    states = [a_kline(0, after_ms=each) for each in (10, 20, 30)]
    updates.put(states)
    assert updates.take(most=2) == tuple(states[:2])
    assert updates.take(most=2) == (states[2],)
    assert updates.take(most=2) == ()


def test_the_oldest_are_given_up_where_there_is_no_room() -> None:
    """And counted."""
    updates = Updates(2)
    updates.put([a_kline(minute) for minute in range(5)])
    assert updates.take(most=9) == (a_kline(3), a_kline(4))
    assert updates.dropped == 3


def test_what_is_put_back_leaves_first() -> None:
    """As far as there is room for it again."""
    updates = Updates(3)
    updates.put([a_kline(0), a_kline(1), a_kline(2)])
    taken = updates.take(most=2)
    updates.put([a_kline(3)])
    updates.put_back(taken)
    assert updates.dropped == 1
    assert updates.take(most=9) == (a_kline(1), a_kline(2), a_kline(3))
