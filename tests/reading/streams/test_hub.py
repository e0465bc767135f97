"""Streams of a whole agent, on a virtual clock: what is sent, when, and in which order."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
from attrs import define, field
from trio.testing import MockClock

from klineagent.core.interval import MINUTE_MS, Interval
from klineagent.core.kline import Kline
from klineagent.exchange.venues import SPOT, USDM, Venue
from klineagent.reading.streams.flush import SOON_S
from klineagent.testing.simulation import FEBRUARY_2026_MS, open_simulation
from tests.reading.streams.listening import Listening, listening, streams_of
from tests.simulations.looking import MINUTE_S, logged


@define
class Closings:
    """Notes when the closing event of each candle came in; a follower of the bus."""

    at: dict[int, float] = field(factory=dict)

    def follow(self, klines: Sequence[Kline], _frames: Sequence[bytes]) -> None:
        for kline in klines:
            if kline.is_closed:
                self.at.setdefault(kline.open_time, trio.current_time())


async def test_every_candle_closes_once_and_in_order(autojump_clock: MockClock) -> None:
    """Forming states come about once a second, the closing event as soon as it is there."""
    async with (
        open_simulation(symbols=["BTCUSDT"], intervals=[Interval.M1], tick_ms=250) as simulation,
        streams_of(simulation) as hub,
        listening(hub, "/market/ws/btcusdt@kline_1m") as client,
    ):
        closings, opens, forming = Closings(), [], 0
        with simulation.agent.bus.followed(closings), trio.move_on_after(10 * MINUTE_S):
            while True:
                event = await client.message()
                assert (event["e"], event["s"]) == ("kline", "BTCUSDT")
                open_ms = event["k"]["t"]
                if event["k"]["x"]:
                    opens.append(open_ms)
                    assert trio.current_time() - closings.at[open_ms] <= SOON_S + 1e-6
                else:
                    forming += 1
                    assert not opens or open_ms == opens[-1] + MINUTE_MS
        assert len(opens) in {10, 11}
        assert opens == list(range(opens[0], opens[-1] + 1, MINUTE_MS))
        assert 500 < forming < 700


@pytest.mark.parametrize("venue", [USDM, SPOT], ids=lambda each: each.name)
async def test_a_candle_that_was_missed_comes_in_its_place(
    venue: Venue, autojump_clock: MockClock
) -> None:
    """It is fetched after its deadline; what came meanwhile waits for it."""
    async with (
        open_simulation(symbols=["BTCUSDT"], intervals=[Interval.M1], venue=venue) as simulation,
        streams_of(simulation) as hub,
        listening(hub, "/ws/btcusdt@kline_1m") as client,
    ):
        await trio.sleep(2 * MINUTE_S + 30)
        with simulation.exchange.faults.losing_closings():
            await trio.sleep(MINUTE_S)
        told = await _told(client, 2 * MINUTE_S)
        assert simulation.exchange.faults.injected["losing_closings"] >= 1
        assert [open_ms for open_ms, _ in told] == sorted(open_ms for open_ms, _ in told)
        opens = [open_ms for open_ms, is_closed in told if is_closed]
        assert opens == list(range(opens[0], opens[-1] + 1, MINUTE_MS))
        assert len(opens) in {5, 6}


async def test_after_an_outage_all_candles_come_in_order(autojump_clock: MockClock) -> None:
    """Those that closed while the exchange was away, then those since."""
    async with (
        open_simulation(symbols=["BTCUSDT"], intervals=[Interval.M1], tick_ms=5_000) as simulation,
        streams_of(simulation) as hub,
        listening(hub, "/stream?streams=btcusdt@kline_1m") as client,
    ):
        told = await _told(client, 90)
        with simulation.exchange.offline():
            told += await _told(client, 7 * MINUTE_S)
        told += await _told(client, 2 * MINUTE_S)
        assert [open_ms for open_ms, _ in told] == sorted(open_ms for open_ms, _ in told)
        opens = [open_ms for open_ms, is_closed in told if is_closed]
        assert opens == list(range(opens[0], opens[-1] + 1, MINUTE_MS))
        assert opens[-1] >= simulation.exchange.clock.now_ms() - 2 * MINUTE_MS


async def test_a_candle_that_cannot_be_fetched_does_not_stop_the_stream(
    autojump_clock: MockClock,
) -> None:
    """The newer ones go on after a while; it comes when it can be fetched."""
    async with (
        open_simulation(symbols=["BTCUSDT"], intervals=[Interval.M1], tick_ms=5_000) as simulation,
        streams_of(simulation) as hub,
        listening(hub, "/ws/btcusdt@kline_1m") as client,
    ):
        await trio.sleep(90)
        faults = simulation.exchange.faults
        with faults.hanging_rest():
            with faults.losing_closings():
                await trio.sleep(MINUTE_S)
            told = await _told(client, MINUTE_S)
            lost = told[-1][0] - 2 * MINUTE_MS
            assert told[-1][0] > simulation.exchange.clock.now_ms() - 2 * MINUTE_MS
        late = await _told(client, 3 * MINUTE_S)
        opens = [open_ms for open_ms, is_closed in (*told, *late) if is_closed]
        assert len(opens) == len({*opens})
        assert sorted(opens) == list(range(min(opens), max(opens) + 1, MINUTE_MS))
        assert lost in {*opens}


async def test_the_present_candle_comes_at_once(autojump_clock: MockClock) -> None:
    """After the answer; in a quiet market no other event may come for long."""
    async with (
        open_simulation(symbols=["BTCUSDT"], intervals=[Interval.H1], tick_ms=10 * MINUTE_MS) as (
            simulation
        ),
        streams_of(simulation) as hub,
    ):
        await trio.sleep(25 * MINUTE_S)
        async with listening(hub, "/market/ws") as client:
            asked_at = trio.current_time()
            await client.ask("SUBSCRIBE", "btcusdt@kline_1h", "x@nothing", request_id="mine")
            assert await client.message() == {"result": None, "id": "mine"}
            event = await client.message()
            assert (event["k"]["t"], event["k"]["x"]) == (FEBRUARY_2026_MS, False)
            assert trio.current_time() - asked_at < 0.05
        # Another who listens gets what the first got last.
        async with listening(hub, "/ws/btcusdt_perpetual@continuousKline_1h") as client:
            continuous = await client.message()
            assert continuous["k"].items() <= event["k"].items()


async def test_a_series_that_is_not_recorded_is_silent_until_it_is(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says once how to add it; then events begin, without another request."""
    async with (
        open_simulation(symbols=["BTCUSDT"], intervals=[Interval.M1], tick_ms=1_000) as simulation,
        streams_of(simulation) as hub,
        listening(hub, "/ws") as client,
    ):
        for _ in range(2):
            await client.ask("SUBSCRIBE", "ethusdt@kline_5m", "ETHUSDT@kline_5m")
            assert await client.message() == {"result": None, "id": 1}
            await client.ask("UNSUBSCRIBE", "ethusdt@kline_5m")
            assert await client.message() == {"result": None, "id": 1}
        await client.ask("SUBSCRIBE", "ethusdt@kline_5m")
        await client.message()
        assert await _told(client, 20) == []
        [line] = logged(caplog, "stream_not_recorded")
        assert line["hint"] == "klineagent add ETHUSDT --intervals 5m"
        await simulation.agent.desired.add("ETHUSDT", Interval.M5)
        assert await _told(client, 10)


async def test_the_path_says_which_venue_is_meant(autojump_clock: MockClock) -> None:
    """Where symbols have the same name; a bare path is spot's, as on the exchange.

    Also for what is not recorded there.
    """
    async with (
        open_simulation(
            symbols=["BTCUSDT", "ETHUSDT", "spot:BTCUSDT"],
            intervals=[Interval.M1],
            beside=[SPOT],
            tick_ms=1_000,
        ) as simulation,
        streams_of(simulation) as hub,
    ):
        await trio.sleep(10)
        traded = {}
        for path in ("/market/ws", "/usdm/ws", "/ws", "/spot/ws"):
            async with listening(hub, f"{path}/btcusdt@kline_1m") as client:
                traded[path] = (await client.message())["k"]["f"], await _decimals(client)
        assert [places for _, places in traded.values()] == [2, 2, 8, 8]
        async with listening(hub, "/ws/ethusdt@kline_1m") as client:
            assert await _told(client, 10) == []


async def _decimals(client: Listening) -> int:
    event = await client.message()
    return len(event["k"]["c"].partition(".")[2])


async def _told(client: Listening, for_s: float) -> list[tuple[int, bool]]:
    """Open time of each event that has come or comes, and whether it closes the candle."""
    told = []
    with trio.move_on_after(for_s):
        while True:
            message = await client.message()
            event = message.get("data", message)
            told.append((event["k"]["t"], event["k"]["x"]))
    return told
