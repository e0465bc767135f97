"""Answers to klines requests, held against the exchange's own."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from klineagent.core.errors import BadRead, NotReadable, Overloaded
from klineagent.core.interval import MINUTE_MS, Interval
from klineagent.exchange.venues import COINM, SPOT, USDM, Venue
from klineagent.reading import candles, tail
from klineagent.reading.candles import CandleReader
from klineagent.reading.request import read_klines_request
from klineagent.reading.rows import body_of
from klineagent.storage.reader import KlineRange, Reader
from klineagent.testing.simulation import FEBRUARY_2026_MS, Simulation, open_simulation
from tests.simulations.looking import MINUTE_S

INTERVALS = (Interval.M1, Interval.M5)
# A candle that has just opened has no event yet, and none is made up.
FIRST_EVENT_MS = 2_500
SYMBOL = {"usdm": "BTCUSDT", "spot": "BTCUSDT", "coinm": "BTCUSD_PERP"}


def a_reader(simulation: Simulation) -> CandleReader:
    """A reader whose tail the caller subscribes to the bus."""
    agent = simulation.agent
    return CandleReader(venues=agent.venues, writer=agent.writer)


async def ours(simulation: Simulation, reader: CandleReader, query: Mapping[str, str]) -> bytes:
    """Our answer to a klines request."""
    running = simulation.agent.venues.main
    rows, _ = await reader.klines(running, read_klines_request(query, running.venue))
    return body_of(rows)


def theirs(simulation: Simulation, query: Mapping[str, str]) -> bytes:
    """The exchange's answer at the same moment."""
    exchange = simulation.exchange
    path = f"{exchange.venue.rest_prefix}/klines"
    return exchange.rest.answer("GET", path, query, exchange.clock.now_ms()).body


def rows_of(body: bytes) -> list[msgspec.Raw]:
    """The rows of an answer, each as it is written."""
    return msgspec.json.decode(body, type=list[msgspec.Raw])


def closed_of(body: bytes, now_ms: int) -> list[bytes]:
    """The rows of candles that are over."""
    rows = [bytes(row) for row in rows_of(body)]
    return [row for row in rows if msgspec.json.decode(row)[6] < now_ms]


def some_query(dice: random.Random, symbol: str, now_ms: int) -> dict[str, str]:
    """Any combination of times and limit, of candles of the last eight hours."""
    query = {"symbol": symbol, "interval": dice.choice(INTERVALS).value}
    since_ms = now_ms - dice.randint(0, 480) * MINUTE_MS - dice.randint(0, 59_999)
    kind = dice.choice(["neither", "since", "until", "both"])
    if kind in {"since", "both"}:
        query["startTime"] = str(since_ms)
    if kind in {"until", "both"}:
        until_ms = min(since_ms + dice.randint(0, 90) * MINUTE_MS, now_ms + MINUTE_MS)
        query["endTime"] = str(until_ms)
    if dice.random() < 0.8 or kind == "until":
        query["limit"] = str(dice.randint(2, 20))
    return query


@pytest.mark.parametrize("venue", [USDM, COINM, SPOT], ids=lambda each: each.name)
async def test_closed_rows_are_those_of_the_exchange_byte_by_byte(
    venue: Venue, autojump_clock: MockClock
) -> None:
    """For every combination of times and limit; the forming candle comes last."""
    symbol, dice = SYMBOL[venue.name], random.Random(7)
    async with open_simulation(
        symbols=[symbol], intervals=INTERVALS, venue=venue, tick_ms=1_000, history=1_000
    ) as simulation:
        reader = a_reader(simulation)
        with simulation.agent.bus.subscribed(reader.tail):
            await trio.sleep(5 * MINUTE_S + 7.3)
            compared = 0
            for _ in range(150):
                await trio.sleep(dice.uniform(0.5, 9))
                now_ms = simulation.exchange.clock.now_ms()
                query = some_query(dice, symbol, now_ms)
                before = theirs(simulation, query)
                answer = await ours(simulation, reader, query)
                over = closed_of(before, now_ms)
                assert closed_of(answer, now_ms) == over, query
                if now_ms % MINUTE_MS > FIRST_EVENT_MS:
                    assert len(rows_of(answer)) == len(rows_of(before)), query
                compared += len(over)
            assert compared > 1_000


async def test_what_the_exchange_refuses_is_refused_likewise(autojump_clock: MockClock) -> None:
    """With its codes and texts, by which clients tell what to do."""
    async with open_simulation(symbols=["BTCUSDT"], intervals=[Interval.M1]) as simulation:
        for query in (
            {},
            {"symbol": "BTCUSDT"},
            {"symbol": "BTCUSDT", "interval": "7m"},
            {"symbol": "BTCUSDT", "interval": "1m", "limit": "0"},
            {"symbol": "BTCUSDT", "interval": "1m", "limit": "1501"},
            {"symbol": "BTCUSDT", "interval": "1m", "limit": "x"},
            {"symbol": "BTCUSDT", "interval": "1m", "startTime": "x"},
            {"symbol": "BTCUSDT", "interval": "1m", "startTime": "9", "endTime": "8"},
        ):
            with pytest.raises(BadRead) as refused:
                read_klines_request(query, USDM)
            error = msgspec.json.decode(theirs(simulation, query))
            assert error == {"code": refused.value.code, "msg": str(refused.value)}, query


@pytest.mark.logs("symbols_unavailable")
async def test_no_answer_is_short_without_a_word(autojump_clock: MockClock) -> None:
    """Missing candles are waited for a little, and then named; older ones and others, too."""
    async with open_simulation(
        symbols=["BTCUSDT"], intervals=[Interval.M1], history=50, tick_ms=1_000
    ) as simulation:
        reader = a_reader(simulation)
        with simulation.agent.bus.subscribed(reader.tail):
            await trio.sleep(5 * MINUTE_S + 7)
            query = {"symbol": "BTCUSDT", "interval": "1m", "limit": "10"}
            assert len(rows_of(await ours(simulation, reader, query))) == 10
            with pytest.raises(NotReadable, match=r"recorded from .*--history"):
                await ours(simulation, reader, {**query, "limit": "100"})
            with pytest.raises(NotReadable, match="add ETHUSDT --intervals 1m"):
                await ours(simulation, reader, {**query, "symbol": "ETHUSDT"})
            with pytest.raises(BadRead, match=r"Invalid symbol\."):
                await ours(simulation, reader, {**query, "symbol": "NONE"})
            oldest = rows_of(await ours(simulation, reader, {**query, "startTime": "0"}))
            assert len(oldest) == 10
            before_ms = msgspec.json.decode(oldest[0])[0] - 1
            for older in (
                {"startTime": str(before_ms - MINUTE_MS)},
                {"startTime": "0", "endTime": str(before_ms)},
            ):
                with pytest.raises(NotReadable, match="recorded from"):
                    await ours(simulation, reader, {**query, **older})
            with simulation.exchange.offline():
                await trio.sleep(3 * MINUTE_S)
                with pytest.raises(NotReadable, match="of BTCUSDT 1m are missing"):
                    await ours(simulation, reader, query)
            await trio.sleep(MINUTE_S)
            answer = await ours(simulation, reader, query)
            now_ms = simulation.exchange.clock.now_ms()
            assert closed_of(answer, now_ms) == closed_of(theirs(simulation, query), now_ms)


async def test_a_range_older_than_the_tail_comes_from_the_store(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However full the tail is."""
    for module in (tail, candles):
        monkeypatch.setattr(module, "ROWS_A_SERIES", 20)
    monkeypatch.setattr(tail, "TRIMMED_AT_ONCE", 5)
    async with open_simulation(
        symbols=["BTCUSDT"], intervals=[Interval.M1], history=600, tick_ms=1_000
    ) as simulation:
        reader = a_reader(simulation)
        with simulation.agent.bus.subscribed(reader.tail):
            await trio.sleep(5 * MINUTE_S + 7)
            now_ms = simulation.exchange.clock.now_ms()
            query = {"symbol": "BTCUSDT", "interval": "1m", "limit": "30"}
            for since_ms in (now_ms - 35 * MINUTE_MS, now_ms - 500 * MINUTE_MS):
                old = {**query, "startTime": str(since_ms)}
                answer = await ours(simulation, reader, old)
                assert closed_of(answer, now_ms) == closed_of(theirs(simulation, old), now_ms)


async def test_rows_that_the_store_does_not_show_yet_are_read_once_it_does(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were in the spool, or not on the replica that was asked, when it was read first."""
    query = {"symbol": "BTCUSDT", "interval": "1m", "limit": "10"}
    async with open_simulation(
        symbols=["BTCUSDT"], intervals=[Interval.M1], history=50, tick_ms=1_000
    ) as simulation:
        reader, store = a_reader(simulation), simulation.store
        with simulation.agent.bus.subscribed(reader.tail):
            await trio.sleep(5 * MINUTE_S + 7)
            late = {key for key, row in store.klines.items() if row.open_time > FEBRUARY_2026_MS}
            with monkeypatch.context() as behind:
                shown = {key: row for key, row in store.klines.items() if key not in late}
                behind.setattr(store, "klines", shown)
                with pytest.raises(NotReadable, match=r"4 candles .* are on the way"):
                    await ours(simulation, reader, query)
            answer = await ours(simulation, reader, query)
            now_ms = simulation.exchange.clock.now_ms()
            assert closed_of(answer, now_ms) == closed_of(theirs(simulation, query), now_ms)


@pytest.mark.parametrize("venue", [USDM, COINM, SPOT], ids=lambda each: each.name)
async def test_any_combination_of_parameters_is_answered_byte_by_byte(
    venue: Venue, autojump_clock: MockClock
) -> None:
    """Of a market that stands still; what is refused is refused with the same code and text."""
    symbol = SYMBOL[venue.name]
    async with open_simulation(
        symbols=[symbol], intervals=INTERVALS, venue=venue, tick_ms=1_000, history=1_400
    ) as simulation:
        reader, running = a_reader(simulation), simulation.agent.venues.main
        with simulation.agent.bus.subscribed(reader.tail):
            await trio.sleep(5 * MINUTE_S + 7.3)
            for interval in INTERVALS:
                query = {"symbol": symbol, "interval": interval.value, "limit": "1000"}
                await reader.klines(running, read_klines_request(query, venue))
        now_ms = simulation.exchange.clock.now_ms()
        times = st.integers(now_ms - 900 * MINUTE_MS, now_ms + 2 * MINUTE_MS)
        moments = st.one_of(times, times.map(lambda time: time - time % MINUTE_MS)).map(str)
        seen = Counter[bool]()

        @settings(max_examples=200)
        @given(
            st.fixed_dictionaries(
                {
                    "symbol": st.sampled_from([symbol, symbol.lower(), symbol, ""]),
                    "interval": st.sampled_from(["1m", "5m", "1m", "5m", "7m"]),
                },
                optional={
                    "startTime": moments,
                    "endTime": moments,
                    "limit": st.one_of(
                        st.integers(-1, 30).map(str),
                        st.integers(900, 1_600).map(str),
                        st.sampled_from(["--5", "", "x", "9" * 19]),
                    ),
                },
            )
        )
        def check(query: dict[str, str]) -> None:
            expected = theirs(simulation, query)
            try:
                asked = read_klines_request(query, venue)
            except BadRead as refused:
                seen[False] += 1
                error = {"code": refused.code, "msg": str(refused)}
                assert msgspec.json.decode(expected) == error
            else:
                rows = reader.klines_at_once(running, asked)
                if rows is None:  # it reaches back to what only the store has
                    assert len(rows_of(expected)) > 200
                    return
                seen[True] += 1
                over = closed_of(expected, now_ms)
                assert closed_of(body_of(rows), now_ms) == over
                assert len(rows) == len(rows_of(expected))

        check()
        assert min(seen.values()) > 20


async def test_what_memory_answers_at_once_is_what_the_exchange_answers(
    autojump_clock: MockClock,
) -> None:
    """Without a wait and without the store, as soon as the closing event has come."""
    query = {"symbol": "BTCUSDT", "interval": "1m", "limit": "30"}
    async with open_simulation(
        symbols=["BTCUSDT"], intervals=[Interval.M1], tick_ms=1_000
    ) as simulation:
        reader, running = a_reader(simulation), simulation.agent.venues.main
        asked = read_klines_request(query, running.venue)
        with simulation.agent.bus.subscribed(reader.tail):
            await trio.sleep(5 * MINUTE_S + 7.3)
            assert reader.klines_at_once(running, asked) is None
            await reader.klines(running, asked)
            for _ in range(200):
                await trio.sleep(0.713)
                rows = reader.klines_at_once(running, asked)
                now_ms = simulation.exchange.clock.now_ms()
                if rows is None:
                    assert now_ms % MINUTE_MS < FIRST_EVENT_MS
                else:
                    expected = closed_of(theirs(simulation, query), now_ms)
                    assert closed_of(body_of(rows), now_ms) == expected


async def test_a_candle_is_not_followed_by_another_before_it_has_closed(
    autojump_clock: MockClock,
) -> None:
    """Its last forming state would be taken for its end; so the read waits, and is refused."""
    query = {"symbol": "BTCUSDT", "interval": "1m", "limit": "3"}
    async with open_simulation(
        symbols=["BTCUSDT"], intervals=[Interval.M1], tick_ms=1_000, grace_s=20
    ) as simulation:
        reader, running = a_reader(simulation), simulation.agent.venues.main
        asked = read_klines_request(query, running.venue)
        with simulation.agent.bus.subscribed(reader.tail):
            await trio.sleep(5 * MINUTE_S + 50)
            await reader.klines(running, asked)
            with simulation.exchange.faults.delaying_closings(by_ms=8_000):
                now_ms = simulation.exchange.clock.now_ms()
                closes_ms = Interval.M1.next_open(Interval.M1.open_at(now_ms))
                await simulation.exchange.clock.sleep_until(closes_ms + 1_500)
                assert reader.klines_at_once(running, asked) is None
                began = trio.current_time()
                with pytest.raises(NotReadable, match="that is just over has not come yet"):
                    await reader.klines(running, asked)
                assert trio.current_time() == began + candles.COMPLETE_WITHIN_S
                await simulation.exchange.clock.sleep_until(closes_ms + 6_000)
                rows, _ = await reader.klines(running, asked)
                now_ms = simulation.exchange.clock.now_ms()
                assert now_ms < closes_ms + 8_500
                over = closed_of(theirs(simulation, query), now_ms)
                assert closed_of(body_of(rows), now_ms) == over


async def test_who_asks_a_moment_before_a_close_gets_the_closed_candle(
    autojump_clock: MockClock,
) -> None:
    """The agent's clock may be behind the exchange's, and a bot's ahead of both."""
    query = {"symbol": "BTCUSDT", "interval": "1m", "limit": "5"}
    async with open_simulation(
        symbols=["BTCUSDT"], intervals=[Interval.M1], tick_ms=1_000, history=100
    ) as simulation:
        reader, clock = a_reader(simulation), simulation.exchange.clock
        with simulation.agent.bus.subscribed(reader.tail):
            await trio.sleep(3 * MINUTE_S)
            await ours(simulation, reader, query)
            for early_ms in (90, 5):
                closes_ms = Interval.M1.next_open(Interval.M1.open_at(clock.now_ms()))
                await clock.sleep_until(closes_ms - early_ms)
                answer = await ours(simulation, reader, query)
                now_ms = clock.now_ms()
                assert closes_ms <= now_ms < closes_ms + 1_000
                over = closed_of(theirs(simulation, query), now_ms)
                assert closed_of(answer, now_ms)[-1] == over[-1]


async def test_readers_of_one_series_share_a_read_of_the_store(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty bots that start together read it once, and take one place in the line."""
    query = {"symbol": "BTCUSDT", "interval": "1m", "limit": "100"}
    monkeypatch.setattr(candles, "MOST_IN_LINE", 1)
    async with open_simulation(
        symbols=["BTCUSDT"], intervals=[Interval.M1], tick_ms=1_000
    ) as simulation:
        reader = a_reader(simulation)
        with simulation.agent.bus.subscribed(reader.tail):
            await trio.sleep(5 * MINUTE_S + 7.3)
            reads, read = [], Reader.read

            async def counted(self: Reader, wanted: KlineRange, **rest: Any) -> Any:
                reads.append(wanted)
                await trio.sleep(0.1)
                return await read(self, wanted, **rest)

            monkeypatch.setattr(Reader, "read", counted)
            answers: list[bytes] = []

            async def ask() -> None:
                answers.append(await ours(simulation, reader, query))

            async with trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(ask)
            assert len({*answers}) == 1
            assert len(reads) == 1


async def test_a_line_that_is_too_long_is_refused(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the code that all clients take for one that passes, and when to ask again."""
    query = {"symbol": "BTCUSDT", "interval": "1m", "limit": "100"}
    monkeypatch.setattr(candles, "MOST_IN_LINE", 0)
    async with open_simulation(
        symbols=["BTCUSDT"], intervals=[Interval.M1], tick_ms=1_000
    ) as simulation:
        reader = a_reader(simulation)
        with simulation.agent.bus.subscribed(reader.tail):
            await trio.sleep(5 * MINUTE_S + 7.3)
            with pytest.raises(Overloaded) as refused:
                await ours(simulation, reader, query)
            assert (refused.value.code, refused.value.retry_after_s) == (-1000, 1)


@pytest.mark.parametrize("name", ["limit", "startTime", "endTime"])
@pytest.mark.parametrize("interval", ["1m", "1M"])
@given(st.one_of(st.text("-0123456789"), st.text("0123456789", min_size=14), st.text()))
def test_any_text_of_a_number_is_read_or_refused(name: str, interval: str, text: str) -> None:
    """Be it too long, too large, or no number at all."""
    query = {"symbol": "BTCUSDT", "interval": interval, name: text}
    for venue in (USDM, COINM, SPOT):
        try:
            asked = read_klines_request(query, venue)
        except BadRead as refused:
            assert refused.code in {-1102, -1130}  # noqa: PT017 - most are refused
        else:
            first_ms, end_ms = asked.bounds(FEBRUARY_2026_MS, lambda *_: 0)
            assert first_ms <= end_ms or asked.since_ms is not None


async def test_a_stale_forming_candle_is_refused(autojump_clock: MockClock) -> None:
    """A bot would take its price for the present one, for as long as the candle lasts."""
    query = {"symbol": "BTCUSDT", "interval": "5m", "limit": "3"}
    async with open_simulation(
        symbols=["BTCUSDT"], intervals=[Interval.M5], tick_ms=1_000
    ) as simulation:
        reader, running = a_reader(simulation), simulation.agent.venues.main
        asked = read_klines_request(query, running.venue)
        with simulation.agent.bus.subscribed(reader.tail):
            await trio.sleep(5 * MINUTE_S + 20)
            await reader.klines(running, asked)
            with simulation.exchange.offline():
                await trio.sleep(20)
                assert reader.klines_at_once(running, asked) is not None
                await trio.sleep(20)
                assert reader.klines_at_once(running, asked) is None
                with pytest.raises(NotReadable, match="and no connection carries it"):
                    await reader.klines(running, asked)
                over = {**query, "endTime": str(simulation.exchange.clock.now_ms() - 300_000)}
                assert len(rows_of(await ours(simulation, reader, over))) == 3
