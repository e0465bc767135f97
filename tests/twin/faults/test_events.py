"""Faults of events, seen in the frames themselves."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.frame_protocol import FrameProtocol, Opcode

from klineagent.core.interval import MINUTE_MS
from klineagent.twin.faults import events as event_faults
from klineagent.twin.faults.events import Chance, Fragmenting
from klineagent.twin.wire import StreamEvent

CHINESE = StreamEvent("币安人生usdt@kline_1m", '{"s":"币安人生USDT"}'.encode(), 1_000)


def chance(share: float = 1.0, seed: int = 0) -> Chance:
    """The dice of one fault."""
    return Chance(kind="test", share=share, dice=random.Random(seed), injected=Counter())


def closing(stream: str, event_ms: int = 0) -> StreamEvent:
    """A closing event without content."""
    return StreamEvent(stream, b"{}", event_ms, is_closing=True)


def forming(stream: str, event_ms: int = 0) -> StreamEvent:
    """A forming update of a candle."""
    return StreamEvent(stream, b"{}", event_ms)


@given(st.integers(0, 1_000))
def test_fragments_are_pieces_of_the_text(seed: int) -> None:
    """Two to four, also split within letters; a ping follows at most every 10 s."""
    fragmenting = Fragmenting(chance(seed=seed))
    pings = 0
    for now_ms in (20_000, 25_000, 29_999, 30_000):
        (event,) = fragmenting([CHINESE], now_ms)
        reader = FrameProtocol(client=True, extensions=[])
        reader.receive_bytes(event.framed(combined=True))
        frames = list(reader.received_frames())
        texts = [str(frame.payload) for frame in frames if frame.opcode is not Opcode.PING]
        assert "".join(texts).encode() == CHINESE.text(combined=True)
        assert 2 <= len(texts) <= 4
        pings += sum(frame.opcode is Opcode.PING for frame in frames)
    assert pings == 2


@given(st.integers(0, 1_000))
def test_garbage_is_text(seed: int) -> None:
    """It is UTF-8, raw and combined alike, and never a closing event."""
    garbage, true = event_faults.garbling(chance(seed=seed), False, [closing("a")], 0)
    garbage.text(combined=True).decode()
    assert garbage.text(combined=True) == garbage.text(combined=False)
    assert not garbage.is_closing
    assert true == closing("a")


def test_a_straggler_follows_its_own_stream() -> None:
    """It waits for the next event of its stream; one that is too old is dropped."""
    stragglers = {"a": closing("a", 0), "b": closing("b", 0)}
    sent = event_faults.following(stragglers, [forming("c"), forming("a")], MINUTE_MS)
    assert [(e.stream, e.is_closing) for e in sent] == [("c", False), ("a", False), ("a", True)]
    sent = event_faults.following(stragglers, [forming("b")], 10 * MINUTE_MS)
    assert [(e.stream, e.is_closing) for e in sent] == [("b", False)]
    assert not stragglers


@given(st.integers(0, 1_000))
def test_reordering_keeps_every_event(seed: int) -> None:
    """An event that is not sent now is a straggler."""
    events = [closing(name) for name in "abcdef"]
    stragglers: dict[str, StreamEvent] = {}
    sent = list(event_faults.reordering(chance(0.5, seed), stragglers, events, 0))
    assert sorted([e.stream for e in sent] + list(stragglers)) == list("abcdef")


def test_without_a_next_candle_none_opens_early() -> None:
    """A halted symbol has no next candle; the fault does not count as struck."""
    dice = chance()
    sent = event_faults.opening_early(dice, lambda _stream, _ms: None, [closing("a")], 0)
    assert len(list(sent)) == 1
    assert not dice.injected


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_shares_of_all_and_none_are_exact(share: float) -> None:
    """A share of 1 always strikes, one of 0 never."""
    dice = chance(share)
    struck = [dice.strikes() for _ in range(1_000)]
    assert set(struck) == {bool(share)}
    assert dice.injected["test"] == sum(struck)
