"""The agent's answers about its data agree with the store, with the faults, and with each other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from klineagent.agent import open_agent
from klineagent.config.model import Config
from klineagent.core.address import Bind
from klineagent.core.interval import MINUTE_MS, Interval
from klineagent.exchange.venues import SPOT, USDM, Venue
from klineagent.storage.memory.disk import MemoryDisk
from klineagent.storage.memory.store import MemoryStore
from klineagent.testing.simulation import FEBRUARY_2026_MS, Simulation, open_simulation
from klineagent.twin.exchange import Exchange, open_exchange
from klineagent.twin.market.eventful import EventfulMarket
from klineagent.twin.market.random import RandomMarket
from klineagent.twin.network import TwinNetwork
from klineagent.twin.venues import venue_named
from tests.simulations.asking import Asker, milliseconds
from tests.simulations.looking import HOUR_S, MINUTE_S

M1 = Interval.M1


def _minute(number: int) -> int:
    """The open time of a minute since the start."""
    return FEBRUARY_2026_MS + number * MINUTE_MS


def _market(venue_name: str = "usdm") -> EventfulMarket:
    return EventfulMarket(
        RandomMarket(symbols=3, seed=1, start_ms=FEBRUARY_2026_MS, venue_name=venue_name)
    )


def _asker(simulation: Simulation) -> Asker:
    return Asker(simulation.agent, simulation.store)


def _exchange() -> AbstractAsyncContextManager[Exchange]:
    return open_exchange(_market(), venue_named("usdm"), tick_ms=MINUTE_MS)


@asynccontextmanager
async def _agent(exchange: Exchange, store: MemoryStore) -> AsyncIterator[Asker]:
    """An agent that records the minutes of one symbol, and is started and stopped by the test."""
    anywhere = Bind("127.0.0.1", 0)
    config = Config(
        symbols=("BTCUSDT",),
        intervals=(M1,),
        store="memory:",
        command_bind=anywhere,
        status_bind=anywhere,
        read_bind=None,
        agent_ip=anywhere.host,
        history=0,
    )
    async with trio.open_nursery() as connections:
        network = TwinNetwork(exchange, connections)
        async with open_agent(config, network=network, store=store) as agent:
            yield Asker(agent, store)
        connections.cancel_scope.cancel(reason="the agent has ended")


async def test_a_quiet_day_is_covered(autojump_clock: MockClock, simulation: Simulation) -> None:
    """From the oldest candle of the history to the newest that is due, without a gap."""
    asker = _asker(simulation)
    await trio.sleep(3 * HOUR_S + MINUTE_S / 2)
    coverage = await asker.agrees()
    minutes = coverage["BTCUSDT", "1m"]
    assert milliseconds(minutes["from"]) == _minute(-500)
    assert milliseconds(minutes["to"]) == _minute(179)
    assert (minutes["expected"], minutes["stored"], minutes["healed"]) == (680, 680, 500)
    assert (minutes["is_active"], minutes["lag_seconds"]) == (True, 0)
    assert await asker.ready() == []
    figures = await asker.figures()
    assert figures("close_to_stored_seconds_count", interval="1m") == 3 * 180
    assert figures("close_to_stored_seconds_bucket", interval="1m", le="2.0") == 3 * 180
    assert figures("rows_stored_total") == simulation.agent.writer.stored
    assert figures("klines_received_total") == simulation.agent.pool.counts.klines
    assert figures("store_up") == 1


async def test_every_state_of_a_candle_is_shown(
    autojump_clock: MockClock, simulation: Simulation
) -> None:
    """By its position between the series' beginning and the clock."""
    asker = _asker(simulation)
    await trio.sleep(90 * MINUTE_S + 1)
    states = {}
    for name, symbol, open_ms in [
        ("before", "BTCUSDT", _minute(-501)),
        ("history", "BTCUSDT", _minute(-500)),
        ("newest", "BTCUSDT", _minute(88)),
        ("just closed", "BTCUSDT", _minute(89)),
        ("open", "BTCUSDT", _minute(90)),
        ("to come", "BTCUSDT", _minute(91)),
        ("not recorded", "BNBUSDT", _minute(88)),
    ]:
        states[name] = (await asker.why(symbol, M1, open_ms))["state"]
    assert states == {
        "before": "not_covered",
        "history": "stored",
        "newest": "stored",
        "just closed": "on_its_way",
        "open": "forming",
        "to come": "expected",
        "not recorded": "not_covered",
    }
    to_come = await asker.why("BTCUSDT", Interval.H1, _minute(120))
    assert milliseconds(to_come["due"]) == _minute(180) + 5000
    newest = await asker.why("btcusdt", M1, _minute(88))
    row = simulation.store.klines["usdm", "BTCUSDT", "1m", _minute(88)]
    assert newest["store"]["row"]["version"] == row.version
    assert newest["store"]["row"]["source"] == "stream"
    assert (await asker.why("BTCUSDT", M1, _minute(-500)))["store"]["row"]["source"] == "rest"
    assert milliseconds(newest["store"]["row"]["event_time"]) == row.event_time


async def test_a_candle_that_is_neither_stored_nor_on_its_way(
    autojump_clock: MockClock, simulation: Simulation
) -> None:
    """A closed candle does not count as on its way unless it is."""
    asker = _asker(simulation)
    await trio.sleep(30.5 * MINUTE_S)
    key = ("usdm", "BTCUSDT", "1m", _minute(20))
    row = simulation.store.klines.pop(key)
    why = await asker.why("BTCUSDT", M1, _minute(20))
    assert (why["state"], why["store"]["row"]) == ("lost", None)
    simulation.store.klines[key] = row
    assert (await asker.why("BTCUSDT", M1, _minute(20)))["state"] == "stored"


async def test_lost_closing_events_that_cannot_be_fetched(
    autojump_clock: MockClock, simulation: Simulation
) -> None:
    """Their candles are missing with the exchange's words, overdue after a while, then healed."""
    asker, faults = _asker(simulation), simulation.exchange.faults
    await trio.sleep(30.5 * MINUTE_S)
    with faults.losing_closings(), faults.failing_rest():
        await trio.sleep(5 * MINUTE_S)
        coverage = await asker.agrees()
        minutes = coverage["ETHUSDT", "1m"]
        assert minutes["missing"]["candles"] == 5
        assert minutes["lag_seconds"] == 5.5 * 60
        span = minutes["missing"]["spans"][0]
        assert (milliseconds(span["from"]), span["urgency"]) == (_minute(30), "missed")
        why = await asker.why("ETHUSDT", M1, _minute(30))
        assert milliseconds(why["search"]["since"]) == _minute(31) + 5000
        assert why["search"]["tries"] > 0
        assert why["search"]["error"] == span["error"] != ""
        assert milliseconds(why["search"]["next_try"]) >= milliseconds(why["search"]["since"])
        assert await asker.ready() == []
        await trio.sleep(10 * MINUTE_S)
        assert await asker.ready() == ["series"]
        figures = await asker.figures()
        assert figures("overdue_seconds") > 600
        assert figures("rest_failures_total") > 0
        assert figures("candles_found_missing_total", urgency="missed") > 0
    await trio.sleep(5 * MINUTE_S)
    coverage = await asker.agrees()
    assert coverage["ETHUSDT", "1m"]["missing"]["candles"] == 0
    assert coverage["ETHUSDT", "1m"]["healed"] == 500 + 15
    assert await asker.ready() == []
    assert (await asker.figures())("candles_healed_total", urgency="missed") == 3 * (15 + 3)


async def test_an_exchange_that_refuses(autojump_clock: MockClock, simulation: Simulation) -> None:
    """The limits show that no request is made, and for how long."""
    asker, faults = _asker(simulation), simulation.exchange.faults
    await trio.sleep(30.5 * MINUTE_S)
    with faults.refusing_rest(), faults.losing_closings():
        await trio.sleep(2 * MINUTE_S)
        rest = (await asker.get("/v1/limits"))["rest"]
        assert rest["standing_down_seconds"] > 0
        assert rest["requests_waiting"] > 0
        assert milliseconds(rest["standing_down_until"]) > simulation.exchange.clock.now_ms()
        assert rest["limit"] == rest["share"] * rest["allowed"]
        assert (await asker.figures())("rest_refusals_total") > 0
        search = (await asker.why("ETHUSDT", M1, _minute(30)))["search"]
        assert search["waits_for"].startswith("the exchange")
        assert search["next_try"] == rest["standing_down_until"]


@pytest.mark.parametrize(("venue", "flat"), [(USDM, True), (SPOT, False)])
async def test_a_halt(autojump_clock: MockClock, *, venue: Venue, flat: bool) -> None:
    """Candles that do not exist are absent with that reason, and no alert fires."""
    market = _market(venue.name)
    async with open_simulation(venue=venue, market=market, intervals=[M1], history=0) as simulation:
        asker = _asker(simulation)
        await trio.sleep(HOUR_S)
        with market.halting(["ETHUSDT"], flat=flat):
            for _ in range(30):
                await trio.sleep(MINUTE_S)
                assert await asker.ready() == []
        await trio.sleep(20.5 * MINUTE_S)
        absent = (await asker.agrees())["ETHUSDT", "1m"]["absent"]
        assert absent["candles"] == (0 if flat else 30)
        assert [each["reason"] for each in absent["spans"]] == (
            [] if flat else ["the exchange has no such candle"]
        )
        figures = await asker.figures()
        assert figures("candles_forgone_total", reason="no_candle") == absent["candles"]


async def test_a_delisting(autojump_clock: MockClock) -> None:
    """The symbol does not trade, so its missing candles are no reason for an alert."""
    market = _market()
    async with open_simulation(market=market, intervals=[M1], history=0) as simulation:
        asker = _asker(simulation)
        await trio.sleep(HOUR_S)
        market.delist("ETHUSDT")
        for _ in range(60):
            await trio.sleep(2 * MINUTE_S + 1)
            assert await asker.ready() == []
        await trio.sleep(MINUTE_S / 3)
        coverage = (await asker.agrees())["ETHUSDT", "1m"]
        assert coverage["absent"]["candles"] > 90
        assert "the symbol did not trade" in {
            each["reason"] for each in coverage["absent"]["spans"]
        }


@pytest.mark.parametrize("with_spool", [True, False])
async def test_a_database_that_is_unreachable(
    autojump_clock: MockClock, *, with_spool: bool
) -> None:
    """The agent is ready with a spool and not without; a candle that came is not called stored."""
    disk = MemoryDisk() if with_spool else None
    async with open_simulation(intervals=[M1], history=0, disk=disk) as simulation:
        asker = _asker(simulation)
        await trio.sleep(30.5 * MINUTE_S)
        with simulation.store.offline():
            await trio.sleep(10 * MINUTE_S)
            assert await asker.ready() == ([] if with_spool else ["store"])
            why = await asker.why("BTCUSDT", M1, _minute(35))
            assert why["state"] == "closed"
            place = "the spool" if with_spool else "memory"
            assert f"waits in {place};" in why["explanation"]
            assert not why["store"]["answered"]
            assert "offline" in why["store"]["error"]
            figures = await asker.figures()
            assert figures("store_up") == 0
            if with_spool:
                assert figures("spool_rows") > 0
                assert figures("rows_spooled_total") == figures("spool_rows")
            else:
                assert figures("queue_rows") >= 30
            stored = figures("rows_stored_total")
            coverage = await asker.coverage()
            assert coverage["BTCUSDT", "1m"]["missing"]["candles"] == 0
        await trio.sleep(MINUTE_S)
        assert (await asker.why("BTCUSDT", M1, _minute(35)))["state"] == "stored"
        await asker.agrees()
        assert await asker.ready() == []
        figures = await asker.figures()
        assert figures("rows_stored_total") >= stored + 30
        late = figures("close_to_stored_seconds_count", interval="1m") - figures(
            "close_to_stored_seconds_bucket", interval="1m", le="60.0"
        )
        assert late >= 3 * 9


@pytest.mark.logs("row_refused")
async def test_a_row_that_the_database_refuses(autojump_clock: MockClock) -> None:
    """It is absent with that reason, and a dead letter."""
    async with open_simulation(intervals=[M1], history=0, disk=MemoryDisk()) as simulation:
        asker = _asker(simulation)
        with simulation.store.refusing(
            lambda kline: kline.symbol == "ETHUSDT" and kline.open_time == _minute(3)
        ):
            await trio.sleep(10.5 * MINUTE_S)
            coverage = (await asker.agrees())["ETHUSDT", "1m"]
        assert coverage["absent"]["candles"] == 1
        why = await asker.why("ETHUSDT", M1, _minute(3))
        assert (why["state"], why["store"]["row"]) == ("absent", None)
        assert "refuses" in why["explanation"]
        figures = await asker.figures()
        assert figures("rows_refused_total") >= 1
        assert figures("spool_dead_letters") == 1
        assert figures("rows_refused_by_kind_total", kind="closed") == 1
        assert figures("rows_refused_by_kind_total", kind="forming") >= 1
        assert figures("candles_forgone_total", reason="refused") >= 1


async def test_lost_connections(autojump_clock: MockClock, simulation: Simulation) -> None:
    """Each is counted with its reason; one that is not replaced is a reason for an alert."""
    asker = _asker(simulation)
    await trio.sleep(10 * MINUTE_S)
    simulation.exchange.faults.close_connections(1001)
    await trio.sleep(MINUTE_S)
    (feed,) = (await asker.get("/v1/feeds"))["feeds"]
    assert (feed["state"], feed["lost"], feed["dials"]) == ("up", 1, 2)
    assert "1001" in feed["last_loss"]["reason"]
    assert 59 <= feed["last_loss"]["seconds_ago"] <= 60
    assert 58 < feed["age_seconds"] < 60
    assert feed["streams_carried"] == feed["streams_wanted"] == 9
    assert feed["messages"] > 0
    assert await asker.ready() == []
    with simulation.exchange.offline():
        await trio.sleep(MINUTE_S / 2)
        assert await asker.ready() == []
        await trio.sleep(2 * MINUTE_S)
        assert await asker.ready() == ["feeds"]
        (feed,) = (await asker.get("/v1/feeds"))["feeds"]
        assert (feed["state"], feed["streams_carried"], feed["age_seconds"]) == ("down", 0, None)
        assert feed["last_data_seconds_ago"] >= 120
        figures = await asker.figures()
        assert figures("feeds", state="down") == 1
        assert figures("event_age_seconds") == feed["last_data_seconds_ago"]
        assert figures("feeds_lost_total") == feed["lost"]
        limits = await asker.get("/v1/limits")
        assert 2 <= limits["connections"]["used"] <= feed["dials"]
        assert figures("dials_used") == limits["connections"]["used"]
    await trio.sleep(2 * MINUTE_S + 1.5)
    assert await asker.ready() == []
    await asker.agrees()


async def test_a_connection_that_is_replaced(
    autojump_clock: MockClock, simulation: Simulation
) -> None:
    """The slot has two for a while, and the streams are carried throughout."""
    asker = _asker(simulation)
    await trio.sleep(10 * MINUTE_S)
    simulation.exchange.faults.announce_shutdown()
    await trio.sleep(1)
    (feed,) = (await asker.get("/v1/feeds"))["feeds"]
    assert (feed["state"], feed["streams_carried"]) == ("taking_over", 9)
    await trio.sleep(2 * MINUTE_S)
    (feed,) = (await asker.get("/v1/feeds"))["feeds"]
    assert (feed["state"], feed["replaced"], feed["lost"]) == ("up", 1, 0)
    assert (await asker.figures())("feeds_replaced_total") == 1


async def test_before_the_exchange_is_reachable(autojump_clock: MockClock) -> None:
    """Nothing has begun, and the answers say so."""
    async with _exchange() as exchange, AsyncExitStack() as running:
        with exchange.offline():
            asker = await running.enter_async_context(_agent(exchange, MemoryStore()))
            assert await asker.ready() == ["exchange"]
            (coverage,) = (await asker.coverage()).values()
            assert (coverage["expected"], coverage["from"], coverage["is_active"]) == (
                0,
                None,
                False,
            )
            why = await asker.why("BTCUSDT", M1, _minute(0))
            assert why["state"] == "not_covered"
            assert "not begun" in why["explanation"]
        await trio.sleep(2 * MINUTE_S + 10)
        assert await asker.ready() == []
        await asker.agrees()


async def test_a_restart(autojump_clock: MockClock) -> None:
    """Candles recorded before are covered; those that closed meanwhile are missing until then."""
    store = MemoryStore()
    async with _exchange() as exchange:
        async with _agent(exchange, store) as asker:
            await trio.sleep(HOUR_S)
            await asker.agrees()
        await trio.sleep(HOUR_S + MINUTE_S / 2)
        async with _agent(exchange, store) as asker:
            with exchange.faults.failing_rest():
                await trio.sleep(10)
                coverage = (await asker.agrees())["BTCUSDT", "1m"]
                (span,) = coverage["missing"]["spans"]
                assert span["urgency"] == "restart"
                assert 58 <= span["candles"] <= 61
                assert coverage["lag_seconds"] == pytest.approx(HOUR_S, abs=2 * MINUTE_S)
                assert await asker.ready() == []
            await trio.sleep(5 * MINUTE_S)
            coverage = (await asker.agrees())["BTCUSDT", "1m"]
            assert coverage["missing"]["candles"] == 0
            assert milliseconds(coverage["from"]) <= _minute(0)
            assert (await asker.figures())("candles_healed_total", urgency="restart") >= 58
