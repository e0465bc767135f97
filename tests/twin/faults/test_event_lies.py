"""Lies in events, byte by byte."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from klineagent.twin.faults import event_lies
from klineagent.twin.faults.event_lies import CrossedStreams
from klineagent.twin.faults.events import Chance
from klineagent.twin.interval import MINUTE_MS, TwinInterval
from klineagent.twin.market.candle import flat
from klineagent.twin.market.random import RandomMarket
from klineagent.twin.wire import Series, StreamEvent, kline_event
from tests.twin.samples import START_MS

EDGE_MS = START_MS + MINUTE_MS
SERIES = {
    (listing.symbol, interval): Series(listing, interval)
    for listing in RandomMarket(symbols=2, seed=1, start_ms=START_MS).listings
    for interval in (TwinInterval.M1, TwinInterval.M3)
}


def chance(seed: int = 0) -> Chance:
    """The dice of a lie that always strikes."""
    return Chance(kind="test", share=1.0, dice=random.Random(seed), injected=Counter())


def closing(symbol: str = "BTCUSDT", interval: TwinInterval = TwinInterval.M1) -> StreamEvent:
    """A closing event, a tenth of a second late."""
    candle = flat(START_MS, 100)._replace(trades=7, volume=5)
    return kline_event(SERIES[symbol, interval], candle, EDGE_MS + 100, is_closed=True)


def said(event: StreamEvent) -> dict[str, Any]:
    """The JSON object of an event."""
    content: dict[str, Any] = json.loads(event.payload)
    return content


@given(st.integers(0, 1_000))
def test_a_forming_state_comes_after_the_closing_event(seed: int) -> None:
    """One follows at once and one within half a minute, both with later times."""
    held: list[tuple[int, StreamEvent]] = []
    sent = event_lies.late_forming(chance(seed), lambda *late: held.append(late), [closing()], 0)
    true, forming = sent
    [(held_ms, later)] = held
    assert true == closing()
    for each in (forming, later):
        assert said(each)["k"] == said(true)["k"] | {"x": False}
        assert said(each)["E"] > said(true)["E"]
        assert not each.is_closing
    assert said(later)["E"] == said(true)["E"] + held_ms


def test_a_closing_event_is_repeated_with_another_time() -> None:
    """Its candle is the same."""
    held: list[tuple[int, StreamEvent]] = []
    sent = event_lies.repeated_closings(chance(), lambda *late: held.append(late), [closing()], 0)
    assert list(sent) == [closing()]
    [(held_ms, again)] = held
    assert said(again) == said(closing()) | {"E": said(closing())["E"] + held_ms}


@given(st.integers(0, 1_000))
def test_a_time_may_be_any_up_to_the_end_of_the_candle(seed: int) -> None:
    """Or wrong by a given span; the candle is unchanged."""
    growing = kline_event(
        SERIES["BTCUSDT", TwinInterval.M3], flat(START_MS, 100), EDGE_MS, is_closed=False
    )
    (event,) = event_lies.wrong_times(chance(seed), None, [growing], 0)
    assert EDGE_MS <= said(event)["E"] <= said(growing)["k"]["T"]
    (event,) = event_lies.wrong_times(chance(seed), -7_000, [growing], 0)
    assert said(event) == said(growing) | {"E": EDGE_MS - 7_000}


@given(st.integers(0, 1_000))
def test_a_stream_delivers_the_candle_of_another(seed: int) -> None:
    """Of another symbol or interval; the first event has none to be replaced by."""
    crossed = CrossedStreams(chance(seed))
    events = [closing(symbol, interval) for symbol, interval in SERIES]
    sent = list(crossed(events, 0))
    assert [each.stream for each in sent] == [each.stream for each in events]
    assert sent[0] == events[0]
    crossings = [(new.payload, old.payload) for new, old in zip(sent, events, strict=True)]
    assert sum(new != old for new, old in crossings) >= 1
    assert {new for new, _ in crossings} <= {old for _, old in crossings}


@given(st.integers(0, 1_000))
def test_a_contradiction_is_still_an_event(seed: int) -> None:
    """It is JSON with every field, and impossible."""
    (event,) = event_lies.contradictions(chance(seed), [closing()], 0)
    true, sent = said(closing())["k"], said(event)["k"]
    assert sent.keys() == true.keys()
    assert 1 <= sum(sent[name] != true[name] for name in true) <= 2
