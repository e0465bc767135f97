"""What the dispatcher does with frames, one by one or many at once."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import pytest
import trio
from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from klineagent.core.interval import MINUTE_MS
from klineagent.core.kline import Kline
from klineagent.exchange.clock.clock import ExchangeTime
from klineagent.exchange.regularity import Flaw
from klineagent.exchange.stream.dispatcher import (
    ROWS_AT_ONCE,
    STREAMS_EACH_SECOND,
    Dispatcher,
    FormingTurns,
    FrameCounts,
)
from klineagent.exchange.stream.stream_set import ConnectionState, Stream, StreamSet
from klineagent.exchange.wire import SubscriptionResponse
from tests.klines import OPEN_MS, published_to

CONFLATE_S = 1
WANTED = ["btcusdt@kline_1m", "ethusdt@kline_1m", "solusdt@kline_1m"]
BTC, ETH, SOL = WANTED
UNWANTED = "adausdt@kline_1m"
_VALUES = dict.fromkeys("ohlvqVQ", "1.5")


def _frame(
    stream: str = BTC,
    minute: int = 0,
    *,
    is_closed: bool = False,
    price: int = 1,
    after_ms: int = 30_000,
    **fields: object,
) -> str:
    """Write a frame as the exchange does; `price` distinguishes states of a candle."""
    opened = OPEN_MS + minute * MINUTE_MS
    symbol, _, interval = stream.upper().partition("@KLINE_")
    candle = {"t": opened, "T": opened + MINUTE_MS - 1, "s": symbol, "i": interval.lower()}
    candle |= {"f": 1, "L": 2, **_VALUES, "c": f"{price}", "n": 2, "x": is_closed, "B": "0"}
    candle |= {"h": f"{max(1.5, price)}", "l": f"{min(1.5, price)}"}
    event = {"e": "kline", "E": opened + after_ms, "s": symbol, "k": candle | fields}
    return json.dumps({"stream": stream, "data": event}, separators=(",", ":"))


def _closed(stream: str = BTC, minute: int = 0, *, price: int = 1, **fields: object) -> str:
    return _frame(stream, minute, is_closed=True, price=price, after_ms=60_010, **fields)


def _chunk(*frames: str) -> list[bytes]:
    """Frames that arrive at once."""
    return [frame.encode() for frame in frames]


def _ignore() -> None:
    pass


State = tuple[str, int, int, bool]
"""Symbol, minute, price, whether it is closed."""


def _state(kline: Kline) -> State:
    minute = (kline.open_time - OPEN_MS) // MINUTE_MS
    return kline.symbol, minute, round(kline.close), kline.is_closed


@define(eq=False)
class Post:
    """A dispatcher, and everything that comes out of it."""

    conflate_s: float = CONFLATE_S
    room: float = 1000
    """The rows from the channel."""
    wanted: Sequence[str] = WANTED
    turns: FormingTurns = field(factory=FormingTurns)
    accepted: list[State] = field(factory=list, init=False)
    """The klines that streams accepted."""
    answers: list[SubscriptionResponse] = field(factory=list, init=False)
    time: ExchangeTime = field(factory=ExchangeTime, init=False)
    counts: FrameCounts = field(factory=FrameCounts, init=False)
    state: ConnectionState = field(init=False)
    dispatcher: Dispatcher = field(init=False)
    receive: trio.MemoryReceiveChannel[list[Kline]] = field(init=False)

    def __attrs_post_init__(self) -> None:
        stream_set = StreamSet()
        for name in self.wanted:
            stream_set.want(Stream(name, self._accept, _ignore))
        self.state = stream_set.add_connection()
        send, self.receive = trio.open_memory_channel[list[Kline]](self.room)
        self.dispatcher = Dispatcher(
            venue="usdm",
            state=self.state,
            time=self.time,
            publish=published_to(send),
            counts=self.counts,
            settle=self.answers.append,
            conflate_s=self.conflate_s,
            turns=self.turns,
        )

    def _accept(self, kline: Kline) -> None:
        self.accepted.append(_state(kline))

    def handed_on(self) -> list[State]:
        """Return what has come out since the last call."""
        out: list[State] = []
        while True:
            try:
                out += map(_state, self.receive.receive_nowait())
            except trio.WouldBlock:
                return out


# Closed candles, and forming ones


@pytest.mark.parametrize("conflate_s", [0, CONFLATE_S])
async def test_closed_candles_are_handed_on_at_once(
    autojump_clock: MockClock, conflate_s: float
) -> None:
    """Alone or among others, in the order in which they came."""
    post = Post(conflate_s=conflate_s)
    await post.dispatcher.take(_chunk(_closed(BTC, 0)))
    assert post.handed_on() == [("BTCUSDT", 0, 1, True)]
    await post.dispatcher.take(_chunk(_closed(ETH, 1, price=5), _closed(BTC, 1), _closed(BTC, 2)))
    closed = [("ETHUSDT", 1, 5, True), ("BTCUSDT", 1, 1, True), ("BTCUSDT", 2, 1, True)]
    assert post.handed_on() == closed
    assert post.accepted == [("BTCUSDT", 0, 1, True), *closed]
    assert post.counts == FrameCounts(klines=4)
    assert trio.current_time() == 0


async def test_candles_are_accepted_before_the_writer_has_them(autojump_clock: MockClock) -> None:
    """It may have no room for them, and reopen at once what was accepted."""
    post, seen = Post(), []

    async def publish(rows: list[Kline], _frames: Sequence[bytes] = (), /) -> None:
        seen.append([_state(row) in post.accepted for row in rows])

    post.dispatcher.publish = publish
    await post.dispatcher.take(_chunk(_closed(BTC, 0), _closed(ETH, 0)))
    assert seen == [[True, True]]


async def test_a_candle_that_has_closed_forms_no_more(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """A kept state of it is dropped; one of the next candle is handed on."""
    post = Post()
    nursery.start_soon(post.dispatcher.hand_on_forming)
    await post.dispatcher.take(_chunk(_frame(BTC, 0), _frame(ETH, 1)))
    await post.dispatcher.take(_chunk(_closed(BTC, 0), _closed(ETH, 0)))
    await trio.sleep(2 * CONFLATE_S)
    closed = [("BTCUSDT", 0, 1, True), ("ETHUSDT", 0, 1, True)]
    assert post.handed_on() == [*closed, ("ETHUSDT", 1, 1, False)]


async def test_closed_candles_do_not_wait_for_the_forming_ones_among_them(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """The forming ones are handed on in their time."""
    post = Post()
    nursery.start_soon(post.dispatcher.hand_on_forming)
    await post.dispatcher.take(
        _chunk(_frame(ETH), _closed(BTC), _frame(BTC, 1), _frame(ETH, price=2))
    )
    assert post.handed_on() == [("BTCUSDT", 0, 1, True)]
    await trio.sleep(CONFLATE_S)
    await wait_all_tasks_blocked()
    assert post.handed_on() == [("ETHUSDT", 0, 2, False), ("BTCUSDT", 1, 1, False)]


async def test_the_newest_state_of_forming_candles_is_handed_on_in_its_time(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """One list for all streams; nothing is handed on while nothing comes."""
    post = Post()
    nursery.start_soon(post.dispatcher.hand_on_forming)
    await trio.sleep(100.25)
    for price in range(1, 10):
        await post.dispatcher.take(_chunk(_frame(BTC, price=price), _frame(ETH, price=price)))
        await post.dispatcher.take(_chunk(_frame(ETH, price=0), _frame(ETH, price=price)))
        await post.dispatcher.take(_chunk(_frame(SOL, price=price)))
        await trio.sleep(0.1)
    assert post.handed_on() == []
    states = [*map(_state, await post.receive.receive())]
    assert trio.current_time() == 100.25 + CONFLATE_S
    assert states == [(name, 0, 9, False) for name in ("BTCUSDT", "ETHUSDT", "SOLUSDT")]
    await trio.sleep(100)
    assert post.accepted == states
    assert post.handed_on() == []
    assert post.counts == FrameCounts(klines=45)


async def test_many_forming_candles_are_handed_on_in_portions(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """With checkpoints between; none is left behind."""
    names = [f"s{number}usdt@kline_1m" for number in range(2 * ROWS_AT_ONCE + 50)]
    post = Post(wanted=names)
    nursery.start_soon(post.dispatcher.hand_on_forming)
    await post.dispatcher.take(_chunk(*map(_frame, names)))
    await trio.sleep(2 * CONFLATE_S)
    portions = [len(post.receive.receive_nowait()) for _ in range(3)]
    assert portions == [ROWS_AT_ONCE, ROWS_AT_ONCE, 50]
    assert len(post.accepted) == len(names)


async def test_connections_hand_on_their_forming_candles_in_turns(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """All of them in one pass of the scheduler would hold up every other task."""
    turns = FormingTurns()
    names = [f"s{number}usdt@kline_1m" for number in range(2 * ROWS_AT_ONCE)]
    posts = [Post(wanted=names, turns=turns) for _ in range(2)]
    for post in posts:
        nursery.start_soon(post.dispatcher.hand_on_forming)
        await post.dispatcher.take(_chunk(*map(_frame, names)))
    async with turns.turn:
        await trio.sleep(2 * CONFLATE_S)
        assert [post.handed_on() for post in posts] == [[], []]
    await trio.sleep(1)
    assert [len(post.accepted) for post in posts] == [len(names)] * 2


async def test_more_streams_than_can_be_handed_on_each_second_wait_longer(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """In proportion, so that the rows a second stay the same; closed candles do not wait."""
    post = Post(turns=FormingTurns(lambda: 3 * STREAMS_EACH_SECOND))
    nursery.start_soon(post.dispatcher.hand_on_forming)
    await post.dispatcher.take(_chunk(_frame("btcusdt@kline_1m")))
    await trio.sleep(2.9 * CONFLATE_S)
    assert post.handed_on() == []
    await trio.sleep(0.2 * CONFLATE_S)
    assert len(post.handed_on()) == 1


async def test_other_tasks_run_while_a_large_message_is_read(nursery: trio.Nursery) -> None:
    """Even if all candles of a connection close at once."""
    post = Post(conflate_s=0)
    passes = 0

    async def others() -> None:
        nonlocal passes
        while True:
            await trio.lowlevel.checkpoint()
            passes += 1

    nursery.start_soon(others)
    before = passes
    await post.dispatcher.take(
        _chunk(*(_frame(price=price) for price in range(1, 5 * ROWS_AT_ONCE)))
    )
    assert passes - before >= 5
    nursery.cancel_scope.cancel()


async def test_every_update_is_handed_on_without_conflation(
    autojump_clock: MockClock,
) -> None:
    """At once, in the order in which they came."""
    post = Post(conflate_s=0)
    await post.dispatcher.take(_chunk(_frame(price=1)))
    await post.dispatcher.take(_chunk(*(_frame(price=price) for price in range(2, 5))))
    assert post.handed_on() == [("BTCUSDT", 0, price, False) for price in range(1, 5)]


async def test_the_first_kline_sets_delivered(autojump_clock: MockClock) -> None:
    """Other messages do not count."""
    post = Post()
    for frames in (_chunk('{"e":"24hrTicker"}', '{"result":null,"id":1}'), _chunk("bad")):
        await post.dispatcher.take(frames)
    assert not post.dispatcher.delivered.is_set()
    await post.dispatcher.take(_chunk(_frame(BTC), _frame(ETH)))
    assert post.dispatcher.delivered.is_set()
    assert post.dispatcher.received == 2


# Other messages


_BAD = {
    "no JSON": "garbage",
    "half a frame": _frame()[:200],
    "no price": _closed(c="nan"),
    "an endless price": _closed(h="inf"),
    "an unknown interval": _closed(i="7m"),
    "no candle": '{"stream":"btcusdt@kline_1m","data":{"e":"kline","E":1}}',
    "another stream's envelope": '{"stream":5,"data":{}}',
    "nested without end": "[" * 100_000,
}


@pytest.mark.parametrize("conflate_s", [0, CONFLATE_S])
@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize("bad", _BAD.values(), ids=_BAD)
async def test_a_bad_frame_costs_only_itself(
    autojump_clock: MockClock, bad: str, at: int, conflate_s: float
) -> None:
    """Wherever it is among closed candles; it is counted once."""
    post = Post(conflate_s=conflate_s)
    lines = [_closed(ETH), _closed(SOL)]
    lines.insert(at, bad)
    await post.dispatcher.take(_chunk(*lines))
    assert post.handed_on() == [("ETHUSDT", 0, 1, True), ("SOLUSDT", 0, 1, True)]
    assert post.counts.bad.total() == 1


@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize("bad", _BAD.values(), ids=_BAD)
async def test_a_bad_frame_among_forming_candles_costs_only_itself(
    autojump_clock: MockClock, nursery: trio.Nursery, bad: str, at: int
) -> None:
    """It is counted once, too, though it may be decoded late."""
    post = Post()
    nursery.start_soon(post.dispatcher.hand_on_forming)
    lines = [_frame(ETH), _frame(SOL)]
    lines.insert(at, bad.replace('"x":true', '"x":false'))
    await post.dispatcher.take(_chunk(*lines))
    await trio.sleep(2 * CONFLATE_S)
    assert post.handed_on() == [("ETHUSDT", 0, 1, False), ("SOLUSDT", 0, 1, False)]
    assert post.counts.bad.total() == 1


@pytest.mark.parametrize("other", [_frame(UNWANTED), _frame(ETH), '{"result":null,"id":1}'])
async def test_a_bad_frame_is_counted_once_whatever_comes_with_it(
    autojump_clock: MockClock, nursery: trio.Nursery, other: str
) -> None:
    """Another way to read the chunk does not read it twice."""
    post = Post()
    nursery.start_soon(post.dispatcher.hand_on_forming)
    await post.dispatcher.take(_chunk(_BAD["no candle"], other))
    await post.dispatcher.take(_chunk(_frame(SOL)))
    await trio.sleep(2 * CONFLATE_S)
    assert post.counts.bad.total() == 1


_UNFIT = {
    Flaw.UNREADABLE: _closed(x="true"),
    Flaw.SERIES: _closed(ETH).replace(ETH, BTC),
    Flaw.TIMES: _closed(T=OPEN_MS + MINUTE_MS),
    Flaw.PRICES: _closed(h="0.5"),
    Flaw.VOLUMES: _closed(v="-1.5"),
    Flaw.TRADES: _closed(n=0),
}


@pytest.mark.parametrize("conflate_s", [0, CONFLATE_S])
@pytest.mark.parametrize(("flaw", "unfit"), _UNFIT.items(), ids=[flaw.name for flaw in _UNFIT])
async def test_an_inconsistent_closing_event_closes_nothing(
    autojump_clock: MockClock, flaw: Flaw, unfit: str, conflate_s: float
) -> None:
    """No row is handed on, no stream accepts it, and its flaw is counted."""
    post = Post(conflate_s=conflate_s)
    await post.dispatcher.take(_chunk(_closed(ETH), unfit, _closed(SOL)))
    assert post.handed_on() == post.accepted == [("ETHUSDT", 0, 1, True), ("SOLUSDT", 0, 1, True)]
    assert post.counts == FrameCounts(klines=3, bad=Counter({flaw: 1}))


@pytest.mark.parametrize(("flaw", "unfit"), _UNFIT.items(), ids=[flaw.name for flaw in _UNFIT])
async def test_an_inconsistent_forming_state_is_dropped(
    autojump_clock: MockClock, nursery: trio.Nursery, flaw: Flaw, unfit: str
) -> None:
    """It is found when it would be handed on; until then it may have replaced an older one."""
    post = Post()
    nursery.start_soon(post.dispatcher.hand_on_forming)
    await post.dispatcher.take(_chunk(_frame(ETH), unfit.replace('"x":true', '"x":false')))
    await trio.sleep(2 * CONFLATE_S)
    assert post.handed_on() == post.accepted == [("ETHUSDT", 0, 1, False)]
    assert post.counts.bad == Counter({flaw: 1})


@pytest.mark.parametrize("is_closed", [False, True])
async def test_an_event_from_the_future_is_a_bad_frame(
    autojump_clock: MockClock, nursery: trio.Nursery, is_closed: bool
) -> None:
    """However consistent it is; an event a moment ahead of the clock is none."""
    post = Post()
    nursery.start_soon(post.dispatcher.hand_on_forming)
    post.time.confirm(OPEN_MS + 59_000)
    await post.dispatcher.take(_chunk(_frame(ETH, after_ms=59_000)))
    future = _frame(BTC, is_closed=is_closed, after_ms=5 * MINUTE_MS)
    await post.dispatcher.take(_chunk(future, _frame(SOL, is_closed=is_closed, after_ms=60_010)))
    await trio.sleep(2 * CONFLATE_S)
    assert {symbol for symbol, *_ in post.handed_on()} == {"ETHUSDT", "SOLUSDT"}
    assert post.counts.bad == Counter({Flaw.FUTURE: 1})


@pytest.mark.parametrize("is_closed", [False, True])
async def test_a_time_ahead_of_the_clock_advances_it_once(
    autojump_clock: MockClock, nursery: trio.Nursery, is_closed: bool
) -> None:
    """Alone, and before one that is not; then the exchange is asked."""
    post = Post()
    nursery.start_soon(post.dispatcher.hand_on_forming)
    post.time.confirm(OPEN_MS + 60_000)
    ahead = _frame(BTC, is_closed=is_closed, after_ms=5 * MINUTE_MS)
    await post.dispatcher.take(_chunk(ahead))
    await trio.sleep(2 * CONFLATE_S)
    assert post.time.reckoning.rejected == 1
    post.time.confirm(OPEN_MS + 62_000)
    await post.dispatcher.take(_chunk(ahead, _closed(ETH)))
    await trio.sleep(2 * CONFLATE_S)
    assert post.time.reckoning.rejected == 2
    assert post.time.reckoning.trusted_s(trio.current_time()) == 0


async def test_bad_frames_are_logged_by_their_flaw(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The 1st, 2nd, 4th, 8th ... of each flaw, with the beginning of the frame."""
    post = Post()
    for _ in range(5):
        await post.dispatcher.take(_chunk("garbage", _UNFIT[Flaw.PRICES]))
    logged = [vars(record) for record in caplog.records]
    assert [(each["reason"], each["count"]) for each in logged] == [
        (reason, count) for count in (1, 2, 4) for reason in ("unreadable", "prices")
    ]
    assert '"h":0.5' in logged[1]["frame"]


@pytest.mark.parametrize("frames", [[b""], [b"", b""], [b"\n"], [b" "]])
@pytest.mark.parametrize("conflate_s", [0, CONFLATE_S])
async def test_empty_frames_do_no_harm(
    autojump_clock: MockClock, frames: list[bytes], conflate_s: float
) -> None:
    """They are no klines."""
    post = Post(conflate_s=conflate_s)
    await post.dispatcher.take(frames)
    assert not post.dispatcher.delivered.is_set()
    await post.dispatcher.take(_chunk(_closed(BTC), _closed(ETH)))
    assert len(post.handed_on()) == 2


@pytest.mark.parametrize("candle", [_frame, _closed])
async def test_responses_within_a_chunk_are_settled(
    autojump_clock: MockClock, candle: Callable[..., str]
) -> None:
    """The requester waits for them; the candles around them are kept."""
    post = Post()
    refused = '{"error":{"code":2,"msg":"No"},"id":8}'
    await post.dispatcher.take(_chunk(candle(BTC), '{"result":null,"id":7}', candle(ETH), refused))
    assert post.answers == [SubscriptionResponse(7), SubscriptionResponse(8, "No (code 2)")]
    assert post.counts == FrameCounts(klines=2)


@pytest.mark.parametrize(
    "notice",
    [
        '{"e":"serverShutdown","E":1769904000000}',
        '{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1769904000000}}',
    ],
)
@pytest.mark.parametrize("candle", [_frame, _closed])
async def test_a_shutdown_notice_within_a_chunk_requests_a_replacement(
    autojump_clock: MockClock, notice: str, candle: Callable[..., str]
) -> None:
    """The exchange is about to close this one."""
    post = Post()
    await post.dispatcher.take(_chunk(candle(BTC), notice, candle(ETH)))
    assert post.state.replacement_due.is_set()
    assert "about to close" in post.state.reason
    assert post.counts == FrameCounts(klines=2, other_events=1)


async def test_events_of_other_kinds_do_not_flood_the_log(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The exchange may send one a second on every stream; a shutdown notice is always logged."""
    post = Post()
    for _ in range(100):
        await post.dispatcher.take(_chunk('{"e":"24hrTicker"}'))
    for _ in range(2):
        await post.dispatcher.take(_chunk('{"e":"serverShutdown"}'))
    logged = [vars(record)["kind"] for record in caplog.records if record.msg == "feed_event"]
    assert logged == ["24hrTicker"] * 7 + ["serverShutdown"] * 2
    assert post.counts.other_events == 102


@pytest.mark.parametrize("candle", [_frame, _closed])
async def test_unwanted_klines_are_counted_and_dropped(
    autojump_clock: MockClock, nursery: trio.Nursery, candle: Callable[..., str]
) -> None:
    """The others in the chunk are handed on."""
    post = Post()
    nursery.start_soon(post.dispatcher.hand_on_forming)
    await post.dispatcher.take(_chunk(candle(UNWANTED), candle(BTC), candle(UNWANTED), candle(ETH)))
    await trio.sleep(2 * CONFLATE_S)
    assert [symbol for symbol, *_ in post.handed_on()] == ["BTCUSDT", "ETHUSDT"]
    assert post.counts.klines == 4
    # Two states of one forming candle have become one by then.
    assert post.counts.unwanted == (1 if candle is _frame else 2)


@pytest.mark.parametrize("candle", [_frame, _closed])
async def test_the_clock_advances_to_the_last_frames_time(
    autojump_clock: MockClock, candle: Callable[..., str]
) -> None:
    """It is the newest."""
    post = Post()
    after_ms = 30_000 if candle is _frame else 60_010
    post.time.confirm(OPEN_MS + 3 * MINUTE_MS + after_ms - 1000)
    await post.dispatcher.take(_chunk(candle(BTC), candle(ETH, 3)))
    assert post.time.now_ms() == OPEN_MS + 3 * MINUTE_MS + after_ms


async def test_an_event_far_ahead_does_not_advance_the_clock(autojump_clock: MockClock) -> None:
    """A wrong time would close candles too early."""
    post = Post()
    post.time.confirm(OPEN_MS)
    await post.dispatcher.take(_chunk(_frame(BTC), _frame(ETH, after_ms=7 * MINUTE_MS)))
    assert post.time.now_ms() == OPEN_MS
    assert post.time.reckoning.rejected == 1


# The order of sending and accepting


# Any mix in any chunks


@define
class Outcome:
    """The outcome of one way to read the frames."""

    closed: list[State]
    forming: dict[str, State]
    """The newest state of each stream."""
    answers: list[SubscriptionResponse]
    gave_way: bool
    counts: FrameCounts


_streams = st.sampled_from([*WANTED, UNWANTED])
_states = st.builds(
    lambda stream, minute, price, is_closed: (_closed if is_closed else _frame)(
        stream, minute, price=price
    ),
    _streams,
    st.integers(0, 3),
    st.integers(1, 1000),
    st.booleans(),
)
_wrong = st.sampled_from([{"c": "nan"}, {"i": "7m"}, {"n": -1}, {"t": None}, {"V": ""}])
_bad_closed = st.builds(lambda stream, wrong: _closed(stream, **wrong), _streams, _wrong)
_bad_forming = st.builds(lambda stream, wrong: _frame(stream, **wrong), _streams, _wrong)
_others = st.sampled_from([
    *('{"result":null,"id":1}', '{"code":2,"msg":"No","id":2}', '{"e":"serverShutdown","E":1}'),
    *('{"stream":"x@aggTrade","data":{"e":"aggTrade"}}', "garbage", "{}", "[1]", "null", "\x00"),
    *('{"stream":"btcusdt@kline_1m"}', "\N{SNOWMAN}"),
])  # fmt: skip
_mixed = _states | _states | _bad_closed | _others
_cuts = st.lists(st.integers(0, 30), max_size=6)


def _chunks(frames: Sequence[str], cuts: Iterable[int]) -> list[list[bytes]]:
    """Frames in the ways they may come: many at once, or alone."""
    ends = sorted({min(cut, len(frames)) for cut in cuts} | {0, len(frames)})
    return [_chunk(*frames[at:end]) for at, end in itertools.pairwise(ends)]


def _made_of(chunks: Iterable[list[bytes]], conflate_s: float) -> Outcome:
    async def run() -> Outcome:
        post = Post(conflate_s=conflate_s)
        async with trio.open_nursery() as nursery:
            if conflate_s:
                nursery.start_soon(post.dispatcher.hand_on_forming)
            for chunk in chunks:
                await post.dispatcher.take(chunk)
            await trio.sleep(2 * CONFLATE_S)
            nursery.cancel_scope.cancel()
        states = post.handed_on()
        assert post.accepted == states
        return Outcome(
            [state for state in states if state[-1]],
            {state[0]: state for state in states if not state[-1]},
            post.answers,
            post.state.replacement_due.is_set(),
            post.counts,
        )

    return trio.run(run, clock=MockClock(autojump_threshold=0))


@settings(deadline=None)
@given(st.lists(_mixed, max_size=30), _cuts, st.sampled_from([0, CONFLATE_S]))
def test_chunks_have_the_same_outcome_as_single_frames(
    frames: Sequence[str], cuts: Sequence[int], conflate_s: float
) -> None:
    """Whatever the mix, and wherever it is cut."""
    merged = _made_of(_chunks(frames, cuts), conflate_s)
    assert merged == _made_of(map(_chunk, frames), conflate_s)


@settings(deadline=None)
@given(st.lists(_mixed | _bad_forming, max_size=30), _cuts, st.sampled_from([0, CONFLATE_S]))
def test_bad_forming_candles_do_no_harm_to_closed_ones(
    frames: Sequence[str], cuts: Sequence[int], conflate_s: float
) -> None:
    """In a chunk they may replace an older state, but no other state suffers."""
    merged = _made_of(_chunks(frames, cuts), conflate_s)
    plain = _made_of(map(_chunk, frames), conflate_s)
    assert merged.closed == plain.closed
    assert (merged.answers, merged.gave_way) == (plain.answers, plain.gave_way)
    assert merged.counts.other_events == plain.counts.other_events


@pytest.mark.parametrize("written", ['"x": true', '"x" :true', '"x":\ttrue'])
async def test_a_closed_candle_is_handed_on_at_once_however_it_is_written(
    autojump_clock: MockClock, nursery: trio.Nursery, written: str
) -> None:
    """JSON can be written in many ways; the next candle's state must not replace it."""
    post = Post()
    nursery.start_soon(post.dispatcher.hand_on_forming)
    closed = _closed(BTC).replace('"x":true', written)
    await post.dispatcher.take(_chunk(closed))
    assert post.handed_on() == [("BTCUSDT", 0, 1, True)]
    await post.dispatcher.take(_chunk(closed, _frame(BTC, 1)))
    await trio.sleep(2 * CONFLATE_S)
    assert post.handed_on() == [("BTCUSDT", 0, 1, True), ("BTCUSDT", 1, 1, False)]


@pytest.mark.parametrize(
    "write",
    [
        json.dumps,
        lambda frame: json.dumps(dict(reversed([*frame.items()])), separators=(",", ":")),
        lambda frame: json.dumps(frame, indent=1),
        lambda frame: json.dumps({"id": 1} | frame, separators=(",", ":")),
    ],
    ids=["with spaces", "the stream last", "on many lines", "with something else first"],
)
async def test_the_newest_state_of_a_stream_is_handed_on_however_frames_are_written(
    autojump_clock: MockClock, nursery: trio.Nursery, write: Callable[[object], str]
) -> None:
    """Frames that begin in another way than the exchange's are not confused."""
    post = Post()
    nursery.start_soon(post.dispatcher.hand_on_forming)
    frames = [_frame(name, price=price) for price in (1, 2) for name in WANTED]
    written = [write(json.loads(frame)).replace('"x": false', '"x":false') for frame in frames]
    await post.dispatcher.take(_chunk(*written))
    await trio.sleep(2 * CONFLATE_S)
    assert post.handed_on() == [(name, 0, 2, False) for name in ("BTCUSDT", "ETHUSDT", "SOLUSDT")]
    assert post.counts == FrameCounts(klines=6)


@pytest.mark.parametrize("mixed", [0, 1])
async def test_one_state_of_a_stream_is_handed_on_whatever_came_with_each(
    autojump_clock: MockClock, nursery: trio.Nursery, mixed: int
) -> None:
    """Frames among closed candles are decoded, those among forming ones are not."""
    post = Post()
    nursery.start_soon(post.dispatcher.hand_on_forming)
    runs = [[_frame(BTC, price=1)], [_frame(BTC, price=2)]]
    runs[mixed].append(_closed(ETH))
    for run in runs:
        await post.dispatcher.take(_chunk(*run))
    await trio.sleep(2 * CONFLATE_S)
    assert post.handed_on() == [("ETHUSDT", 0, 1, True), ("BTCUSDT", 0, 2, False)]


@pytest.mark.parametrize("ensure_ascii", [False, True])
async def test_one_state_of_a_stream_is_handed_on_however_its_name_is_written(
    autojump_clock: MockClock, nursery: trio.Nursery, ensure_ascii: bool
) -> None:
    """Beyond ASCII JSON allows several ways."""
    name = "币安usdt@kline_1m"
    post = Post(wanted=[name])
    nursery.start_soon(post.dispatcher.hand_on_forming)

    def written(frame: str) -> str:
        return json.dumps(json.loads(frame), ensure_ascii=ensure_ascii, separators=(",", ":"))

    for run in ([_frame(name, price=1)], [_frame(name, price=2), _closed(ETH)], [_frame(name)]):
        await post.dispatcher.take(_chunk(*map(written, run)))
    await trio.sleep(2 * CONFLATE_S)
    assert post.handed_on() == [("币安USDT", 0, 1, False)]


async def test_bytes_that_are_no_text_are_one_bad_frame(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The exchange sends none."""
    post = Post()
    await post.dispatcher.take([b"\xff\xfe"])
    assert post.counts == FrameCounts(bad=Counter({Flaw.UNREADABLE: 1}))
    assert [record.msg for record in caplog.records] == ["bad_frame"]
