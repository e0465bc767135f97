from __future__ import annotations

import json
from typing import Any

import pytest

from klineagent.core.interval import HOUR_MS, MINUTE_MS
from klineagent.twin.exchange import Exchange
from klineagent.twin.feed.events import EventSource
from klineagent.twin.wire import StreamEvent
from tests.twin.samples import START_MS, Dial

HOUR_END_MS = START_MS + HOUR_MS
STREAMS = [
    f"{symbol}usdt@kline_{name}" for symbol in ("btc", "eth", "sol") for name in ("1m", "1h")
]


@pytest.fixture
async def event_source(twin: Exchange, dial: Dial) -> EventSource:
    """The event source of `twin`, with a client subscribed to three symbols at two intervals."""
    await dial(f"/market/stream?streams={'/'.join(STREAMS)}")
    return twin._event_source


def decoded(event: StreamEvent) -> dict[str, Any]:
    """The JSON object of an event."""
    content = json.loads(event.payload)
    assert isinstance(content, dict)
    return content


async def test_closings_come_in_the_order_of_their_times(event_source: EventSource) -> None:
    """On the hour both intervals close, those of each symbol at one time."""
    events = list(event_source.closings(HOUR_END_MS + 299, lambda _candle: True))
    assert sorted(event.stream for event in events) == sorted(STREAMS)
    times = [event.event_ms for event in events]
    assert times == sorted(times)
    assert all(HOUR_END_MS < time < HOUR_END_MS + 300 for time in times)
    assert all(event.is_closing and decoded(event)["k"]["x"] for event in events)
    assert {decoded(event)["k"]["T"] for event in events} == {HOUR_END_MS - 1}


async def test_within_the_hour_only_minutes_close(event_source: EventSource) -> None:
    """The 1h candle has no closing event then."""
    events = event_source.closings(HOUR_END_MS + MINUTE_MS + 299, lambda _candle: True)
    assert {decoded(event)["k"]["i"] for event in events} == {"1m"}


async def test_candles_may_be_left_without_an_event(event_source: EventSource) -> None:
    """The caller's predicate decides which."""
    events = event_source.closings(HOUR_END_MS + 299, lambda candle: candle.trades > 1_000)
    assert {decoded(event)["k"]["i"] for event in events} == {"1h"}


async def test_the_closing_event_of_one_stream_is_the_same(event_source: EventSource) -> None:
    """Subscribed or not, only its event time is that of the close."""
    events = {
        e.stream: decoded(e) for e in event_source.closings(HOUR_END_MS + 299, lambda _candle: True)
    }
    for stream in STREAMS:
        event = event_source.closing(stream, HOUR_END_MS, lambda _candle: True)
        assert event is not None
        assert event.is_closing
        assert decoded(event) == {**events[stream], "E": HOUR_END_MS}
    assert event_source.closing(STREAMS[0], HOUR_END_MS, lambda _candle: False) is None


async def test_unchanged_candles_have_no_second_event(event_source: EventSource) -> None:
    """A second call at the same time yields nothing."""
    assert len(list(event_source.growth(START_MS + 30_000))) == len(STREAMS)
    assert list(event_source.growth(START_MS + 30_000)) == []
    assert not any(event.is_closing for event in event_source.growth(START_MS + 40_000))


async def test_a_peek_is_a_forming_event(event_source: EventSource) -> None:
    """It is that of the candle that is open at that time."""
    event = event_source.peek("btcusdt@kline_1h", HOUR_END_MS + 5)
    assert event is not None
    assert (decoded(event)["k"]["t"], decoded(event)["k"]["x"]) == (HOUR_END_MS, False)
