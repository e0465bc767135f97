"""Recorded frames, of which some are damaged."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import trio
from attrs import define, field, frozen
from trio.testing import MockClock

from klineagent.core.interval import Interval
from klineagent.core.kline import Kline
from klineagent.exchange.clock.clock import ExchangeTime
from klineagent.exchange.stream.dispatcher import Dispatcher, FormingTurns, FrameCounts
from klineagent.exchange.stream.stream_set import Stream, StreamSet
from klineagent.exchange.wire import StreamedCandle, SubscriptionResponse, decode_frame, stream_name
from tests.exchange.recorded import recorded_frames
from tests.klines import published_to

BATCHES, MOST_FRAMES = 30, 60
_DAMAGED_SHARE = 0.4
_ODD: tuple[object, ...] = (
    *(None, True, False, "", "x", "nan", "-inf", "true", "1", [], {}, [1], "\N{SNOWMAN}", "\x00"),
    *(0, -1, 1, 1.5, -0.0, 10**13, 2**32, 2**63, 10**30, "1e999", "-1", "0", "7m", "1h", "ETHUSDT"),
)
Mutation = Callable[[random.Random, dict[str, Any]], str | bytes]


@pytest.fixture
def recorded() -> list[str]:
    """The recorded frames."""
    return recorded_frames("kline-frames.jsonl")


def _part(dice: random.Random, frame: dict[str, Any]) -> dict[str, Any]:
    """The envelope, the event or its candle; usually the candle, which has most fields."""
    parts: tuple[dict[str, Any], ...] = (frame, frame["data"], *[frame["data"]["k"]] * 4)
    return dice.choice(parts)


def _odd_value(dice: random.Random, frame: dict[str, Any]) -> str:
    part = _part(dice, frame)
    part[dice.choice([*part])] = dice.choice(_ODD)
    return json.dumps(frame)


def _missing_field(dice: random.Random, frame: dict[str, Any]) -> str:
    part = _part(dice, frame)
    del part[dice.choice([*part])]
    return json.dumps(frame)


def _another_field(dice: random.Random, frame: dict[str, Any]) -> str:
    _part(dice, frame)[dice.choice("eEZ")] = dice.choice(_ODD)
    return json.dumps(frame)


def _swapped_fields(dice: random.Random, frame: dict[str, Any]) -> str:
    candle = frame["data"]["k"]
    one, other = dice.sample([*candle], 2)
    candle[one], candle[other] = candle[other], candle[one]
    return json.dumps(frame)


def _shifted_number(dice: random.Random, frame: dict[str, Any]) -> str:
    part = dice.choice((frame["data"], frame["data"]["k"]))
    number = dice.choice([key for key in part if key in "EtTfLn"])
    part[number] += dice.choice((-60_000, -1, 1, 999, 60_000, 86_400_000))
    return json.dumps(frame)


def _twice_the_field(dice: random.Random, frame: dict[str, Any]) -> str:
    key, value = dice.choice("tTsiochlvx"), json.dumps(dice.choice(_ODD))
    return json.dumps(frame).replace('"k": {', f'"k": {{"{key}": {value}, ')


def _cut_short(dice: random.Random, frame: dict[str, Any]) -> bytes:
    text = json.dumps(frame, separators=(",", ":")).encode()
    return text[: dice.randrange(len(text))]


def _flipped_bits(dice: random.Random, frame: dict[str, Any]) -> bytes:
    text = bytearray(json.dumps(frame, separators=(",", ":")).encode())
    for _ in range(dice.randint(1, 3)):
        text[dice.randrange(len(text))] ^= 1 << dice.randrange(8)
    return bytes(text)


_MUTATIONS: tuple[Mutation, ...] = (
    *(_odd_value, _missing_field, _another_field, _swapped_fields),
    *(_shifted_number, _twice_the_field, _cut_short, _flipped_bits),
)


@frozen
class Sent:
    """A frame, and whether it is as it was recorded."""

    text: bytes
    is_sound: bool

    @property
    def row(self) -> Kline:
        """What an undamaged frame says."""
        candle = decode_frame(self.text)
        assert isinstance(candle, StreamedCandle)
        return candle.data.as_kline("usdm")


def _batch(dice: random.Random, recorded: list[str]) -> list[Sent]:
    batch = []
    for _ in range(dice.randint(1, MOST_FRAMES)):
        text = dice.choice(recorded)
        if is_sound := dice.random() > _DAMAGED_SHARE:
            batch.append(Sent(text.encode(), is_sound))
        else:
            damaged = dice.choice(_MUTATIONS)(dice, json.loads(text))
            batch.append(Sent(damaged.encode() if isinstance(damaged, str) else damaged, is_sound))
    return batch


@define(eq=False)
class Post:
    """A dispatcher, and everything that comes out of it."""

    conflate_s: float
    names: set[str]
    rows: list[Kline] = field(factory=list, init=False)
    accepted: list[tuple[str, Kline]] = field(factory=list, init=False)
    answers: list[SubscriptionResponse] = field(factory=list, init=False)
    counts: FrameCounts = field(factory=FrameCounts, init=False)
    dispatcher: Dispatcher = field(init=False)
    _receive: trio.MemoryReceiveChannel[list[Kline]] = field(init=False)

    def __attrs_post_init__(self) -> None:
        stream_set = StreamSet()
        for name in self.names:
            stream_set.want(Stream(name, partial(self._accept, name), lambda: None))
        send, self._receive = trio.open_memory_channel[list[Kline]](math.inf)
        self.dispatcher = Dispatcher(
            venue="usdm",
            state=stream_set.add_connection(),
            time=ExchangeTime(),
            publish=published_to(send),
            counts=self.counts,
            settle=self.answers.append,
            conflate_s=self.conflate_s,
            turns=FormingTurns(),
        )

    def _accept(self, name: str, row: Kline) -> None:
        self.accepted.append((name, row))

    def collect(self) -> None:
        """Return what has come out since the last call."""
        while self._receive.statistics().current_buffer_used:
            self.rows += self._receive.receive_nowait()


def _is_among(few: list[Kline], many: list[Kline]) -> bool:
    """Whether all of `few` are in `many`, in their order."""
    left = iter(many)
    return all(row in left for row in few)


@pytest.mark.parametrize("seed", range(20))
async def test_damaged_frames_cost_no_undamaged_one(
    autojump_clock: MockClock, recorded: list[str], seed: int
) -> None:
    """Each frame is counted as a row, unwanted, bad, another event or a response."""
    dice = random.Random(seed)
    names = {json.loads(text)["stream"] for text in recorded}
    post = Post(0, names)
    sent: list[Sent] = []
    for _ in range(BATCHES):
        batch = _batch(dice, recorded)
        sent += batch
        await post.dispatcher.take([each.text for each in batch])
    post.collect()
    assert _is_among([each.row for each in sent if each.is_sound], post.rows)
    assert [row for _, row in post.accepted] == post.rows
    for name, row in post.accepted:
        assert stream_name(row.symbol, Interval(row.interval)) == name
        assert row.symbol.isupper()
    counts = post.counts
    others = counts.unwanted + counts.bad.total() + counts.other_events + len(post.answers)
    assert len(post.rows) + others == len(sent)
    assert len(counts.bad) > 4


@pytest.mark.parametrize("seed", range(20, 30))
async def test_damaged_frames_cost_no_closed_candle_under_conflation(
    autojump_clock: MockClock, nursery: trio.Nursery, recorded: list[str], seed: int
) -> None:
    """Closed ones are handed on at once; a damaged forming one may replace another."""
    dice = random.Random(seed)
    names = {json.loads(text)["stream"] for text in recorded}
    post = Post(1, names)
    nursery.start_soon(post.dispatcher.hand_on_forming)
    for _ in range(BATCHES):
        batch = _batch(dice, recorded)
        await post.dispatcher.take([each.text for each in batch])
        post.rows.clear()
        post.collect()
        sound = [row for each in batch if each.is_sound and (row := each.row).is_closed]
        assert _is_among(sound, post.rows)
        await trio.sleep(dice.choice((0.1, 2)))
    await post.dispatcher.take([text.encode() for text in recorded])
    post.rows.clear()
    await trio.sleep(2)
    post.collect()
    newest = {
        each.key[:3]: each
        for each in (Sent(text.encode(), True).row for text in recorded)
        if not each.is_closed
    }
    assert set(post.rows) >= set(newest.values())
