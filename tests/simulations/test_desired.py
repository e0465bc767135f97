"""The desired set on the virtual clock: it follows the market, and survives restarts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from random import Random
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from klineagent.agent import open_agent
from klineagent.config.model import Config
from klineagent.core.address import Bind
from klineagent.core.errors import ConfigError
from klineagent.core.interval import MINUTE_MS, Interval
from klineagent.exchange.rest import CandleAnswer, RestClient
from klineagent.exchange.venues import COINM, SPOT, USDM, Venue
from klineagent.series.desired import desired as desired_module
from klineagent.series.desired import forecast as forecast_module
from klineagent.series.desired.demand import MOST_PATTERNS
from klineagent.series.desired.selection import Selection
from klineagent.series.desired.state_file import encode
from klineagent.storage.memory.disk import MemoryDisk, Step
from klineagent.storage.memory.store import MemoryStore
from klineagent.testing.simulation import FEBRUARY_2026_MS, Simulation, open_simulation
from klineagent.twin.exchange import open_exchange
from klineagent.twin.market.eventful import EventfulMarket
from klineagent.twin.market.random import RandomMarket
from klineagent.twin.network import TwinNetwork
from klineagent.twin.venues import venue_named
from tests.simulations.asking import Asker, Figures
from tests.simulations.looking import HOUR_S, MINUTE_S, closed, logged

PATH = "/v1/subscriptions"
LOOPBACK = Bind("127.0.0.1", 0)
SOON_S = 10.0
# The first candle after a delisting falls due within two minutes and a half. That it does not exist
# is proven when answers have skipped it for longer than the service of klines may hang, 20 minutes;
# that nothing is left to wait for is noticed within a minute more.
PROVEN_WITHIN_S = 24 * 60.0
M1 = frozenset({Interval.M1})
PERPETUALS = {
    "match": {"name": "*USDT", "quote": "USDT", "contract": "PERPETUAL"},
    "intervals": ["1m"],
}


def _market(symbols: int = 3, venue: Venue = USDM, **settings: Any) -> EventfulMarket:
    return EventfulMarket(
        RandomMarket(symbols=symbols, seed=1, start_ms=FEBRUARY_2026_MS, venue_name=venue.name),
        **settings,
    )


async def _call(
    simulation: Simulation, method: str, path: str, body: object = None, *, status: int = 200
) -> Any:
    client = simulation.agent.command.test_client()
    response = await client.open(path, method=method, json=body)
    answer = await response.get_json()
    assert response.status_code == status, answer
    return answer


async def _put(simulation: Simulation, *wanted: object, query: str = "", **rest: object) -> Any:
    body = {"subscriptions": list(wanted), **rest}
    return await _call(simulation, "PUT", PATH + query, body)


async def _active(simulation: Simulation) -> set[tuple[str, str]]:
    """The series that run a while later."""
    await trio.sleep(SOON_S)
    listing = simulation.agent.registry.listing()
    assert all(info.is_active for info in listing)
    return {(info.symbol, info.interval.value) for info in listing}


async def _turns_during(call: Callable[[], Awaitable[object]]) -> int:
    """Counts how often another task runs meanwhile."""
    turns, answered = 0, False

    async def take_turns() -> None:
        nonlocal turns
        while not answered:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take_turns)
        await call()
        answered = True
    return turns


async def test_a_pattern_is_followed(autojump_clock: MockClock) -> None:
    """A PUT answers with its change, the registry follows, and GET shows when it has."""
    async with open_simulation(symbols=[], market=_market()) as simulation:
        outcome = await _put(simulation, PERPETUALS)
        assert (outcome["added"], outcome["removed"], outcome["dry_run"]) == (4, 0, False)
        assert "币安人生USDT 1m" in outcome["added_streams"]
        assert {symbol for symbol, _ in await _active(simulation)} == {
            "BTCUSDT",
            "ETHUSDT",
            "SOLUSDT",
            "币安人生USDT",
        }
        now = await _call(simulation, "GET", PATH)
        assert now["streams"] == {"wanted": 4, "active": 4, "pending": 0, "ending": 0}
        assert now["refused"] == now["pending"] == []
        again = await _put(simulation, PERPETUALS)
        assert (again["added"], again["removed"]) == (0, 0)


@pytest.mark.parametrize("venue", [USDM, COINM, SPOT], ids=["usdm", "coinm", "spot"])
async def test_a_listing_begins_by_itself(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, venue: Venue
) -> None:
    """Symbols that a pattern matches are recorded from their first minute, and logged once."""
    new = "ETHUSD_PERP" if venue is COINM else "ETHUSDT"
    market = _market(venue=venue, unlisted=(new,))
    async with open_simulation(symbols=[], market=market, venue=venue) as simulation:
        await _put(simulation, {"match": {"name": "E*"}, "intervals": ["1m"]})
        assert await _active(simulation) == set()
        await trio.sleep(HOUR_S)
        market.list(new)
        listed_ms = Interval.M1.open_at(simulation.exchange.clock.now_ms()) + MINUTE_MS
        await trio.sleep(HOUR_S)
        assert await _active(simulation) == {(new, "1m")}
        opens = [kline.open_time for kline in closed(simulation.store, new, Interval.M1)]
        assert opens == list(range(listed_ms, opens[-1] + 1, MINUTE_MS))
        assert len(opens) >= 58
    (line,) = logged(caplog, "symbols_listed")
    assert line["symbols"] == [new]
    assert logged(caplog, "symbols_delisted") == []


@pytest.mark.parametrize("venue", [USDM, SPOT], ids=["usdm", "spot"])
async def test_a_delisting_ends_by_itself_and_is_complete(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, venue: Venue
) -> None:
    """Each interval ends once the candle that was open then is stored; a relisting begins anew."""
    market = _market(venue=venue)
    async with open_simulation(symbols=[], market=market, venue=venue, history=0) as simulation:
        await _put(simulation, {"match": {"name": "E*"}, "intervals": ["1m", "1h"]})
        await trio.sleep(HOUR_S / 2)
        market.delist("ETHUSDT")
        await trio.sleep(PROVEN_WITHIN_S)
        assert await _active(simulation) == {("ETHUSDT", "1h")}
        now = await _call(simulation, "GET", PATH)
        assert now["streams"] == {"wanted": 0, "active": 0, "pending": 0, "ending": 1}
        await trio.sleep(HOUR_S)
        assert await _active(simulation) == set()
        minutes = closed(simulation.store, "ETHUSDT", Interval.M1)
        (hour,) = (
            kline
            for kline in closed(simulation.store, "ETHUSDT", Interval.H1)
            if kline.open_time == FEBRUARY_2026_MS
        )
        assert hour.trades == sum(
            each.trades for each in minutes if each.open_time >= hour.open_time
        )
        market.list("ETHUSDT")
        await trio.sleep(3 * MINUTE_S)
        assert await _active(simulation) == {("ETHUSDT", "1m"), ("ETHUSDT", "1h")}
    assert [line["symbols"] for line in logged(caplog, "symbols_delisted")] == [["ETHUSDT"]]
    assert [line["symbols"] for line in logged(caplog, "symbols_listed")] == [["ETHUSDT"]]
    assert [line["patterns"] for line in logged(caplog, "patterns_match_nothing")] == [["E*"]]


async def test_a_named_symbol_waits_through_a_delisting(
    autojump_clock: MockClock,
) -> None:
    """It is wanted by its name, so it stays, and GET says why it is idle."""
    async with open_simulation(symbols=[], market=_market()) as simulation:
        await _put(simulation, {"symbols": ["OMGUSDT"], "intervals": ["1m"]})
        await trio.sleep(MINUTE_S)
        now = await _call(simulation, "GET", PATH)
        assert now["streams"]["pending"] == 1
        reason = "OMGUSDT does not trade on usdm (SETTLING)"
        assert now["pending"] == [{"symbol": "OMGUSDT", "reason": reason}]


async def test_the_set_survives_restarts(autojump_clock: MockClock) -> None:
    """A killed agent starts with its patterns, exceptions and the series that commands added."""
    store, state = MemoryStore(), MemoryDisk()
    parts: dict[str, Any] = {"symbols": [], "intervals": [Interval.M1, Interval.H1]}
    async with open_simulation(store=store, state=state, market=_market(), **parts) as simulation:
        assert (await _put(simulation, PERPETUALS))["saved"]
        await _call(simulation, "POST", "/symbols/add", {"symbols": ["TSLAUSDT"]})
        await _call(simulation, "POST", "/streams/add", {"symbol": "BTCUSDT", "interval": "5m"})
        await _call(simulation, "POST", "/streams/remove", {"symbol": "ETHUSDT", "interval": "1m"})
        before = await _active(simulation)
        asked = await _call(simulation, "GET", PATH)
        left = state.kill()
    assert before == {
        ("BTCUSDT", "1m"),
        ("BTCUSDT", "5m"),
        ("SOLUSDT", "1m"),
        ("TSLAUSDT", "1m"),
        ("TSLAUSDT", "1h"),
        ("币安人生USDT", "1m"),
    }
    assert asked["exclude"] == [{"symbols": ["ETHUSDT"], "intervals": ["1m"]}]
    async with open_simulation(store=store, state=left, market=_market(), **parts) as simulation:
        assert await _active(simulation) == before
        again = await _call(simulation, "GET", PATH)
        assert (again["subscriptions"], again["exclude"]) == (
            asked["subscriptions"],
            asked["exclude"],
        )
        # The answer to GET is accepted by PUT.
        same = await _put(simulation, *again["subscriptions"], exclude=again["exclude"])
        assert (same["added"], same["removed"]) == (0, 0)


async def test_power_loss_leaves_one_of_the_sets_that_were_saved(
    autojump_clock: MockClock,
) -> None:
    """The set that was answered as saved is there, whatever the kernel had written by then."""
    for seed in range(20):
        state = MemoryDisk()
        async with open_simulation(symbols=[], state=state, market=_market()) as simulation:
            for symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT"):
                wanted = {"symbols": [symbol], "intervals": ["1m"]}
                assert (await _put(simulation, wanted))["saved"]
            left = state.crash(Random(seed))
        async with open_simulation(symbols=[], state=left, market=_market()) as simulation:
            assert await _active(simulation) == {("SOLUSDT", "1m")}


async def test_the_configuration_has_the_last_word_at_a_start(
    autojump_clock: MockClock,
) -> None:
    """Its entries are marked, a PUT does not change them, and they return after a removal."""
    state = MemoryDisk()
    parts: dict[str, Any] = {"symbols": ["BTCUSDT"], "intervals": [Interval.M1]}
    async with open_simulation(state=state, **parts) as simulation:
        await _put(simulation, {"symbols": ["ETHUSDT"], "intervals": ["1m"]})
        assert await _active(simulation) == {("BTCUSDT", "1m"), ("ETHUSDT", "1m")}
        now = await _call(simulation, "GET", PATH)
        assert [(each["symbols"], each["from"]) for each in now["subscriptions"]] == [
            (["BTCUSDT"], "configuration"),
            (["ETHUSDT"], "http"),
        ]
        await _call(simulation, "POST", "/symbols/remove", {"symbols": ["BTCUSDT"]})
        await trio.sleep(HOUR_S)
        assert await _active(simulation) == {("ETHUSDT", "1m")}
        left = state.copy()
    async with open_simulation(state=left, **parts) as simulation:
        assert await _active(simulation) == {("BTCUSDT", "1m"), ("ETHUSDT", "1m")}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it cannot be read"),
        (b'{"format":1,', "it cannot be read"),
        (b"\xff\x00", "it cannot be read"),
        (
            encode({"usdm": Selection()}).replace(b"usdm", b"moon"),
            "it is for moon, which is no venue",
        ),
        (encode({}).replace(b'"format": 2', b'"format": 3'), "format 3"),
        (
            encode({"usdm": Selection(named={"BTCUSDT": M1})}).replace(b'"1m"', b'"7m"'),
            "'7m' does not exist on usdm",
        ),
    ],
    ids=["empty", "cut", "binary", "venue", "format", "interval"],
)
async def test_a_file_that_cannot_be_read_ends_the_start(
    autojump_clock: MockClock, content: bytes, reason: str
) -> None:
    """Recording another set than the saved one would be worse, and retrying is no use."""
    state = MemoryDisk()
    state.write("subscriptions.json", content)
    with pytest.RaisesGroup(pytest.RaisesExc(ConfigError, match=reason), flatten_subgroups=True):
        async with open_simulation(symbols=[], state=state):
            pass


@pytest.mark.logs("subscriptions_not_saved", "gaps_not_saved")
async def test_a_disk_that_fails_is_logged_and_retried(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The set is followed all the same, and saved once the disk is back."""
    state = MemoryDisk()
    async with open_simulation(symbols=[], state=state, market=_market()) as simulation:
        with state.failing(Step.SYNC):
            assert not (await _put(simulation, PERPETUALS))["saved"]
            assert len(await _active(simulation)) == 4
        await trio.sleep(MINUTE_S)
        assert (await _call(simulation, "GET", PATH))["saved"]
        left = state.kill()
    assert len(logged(caplog, "subscriptions_saved")) == 1
    async with open_simulation(symbols=[], state=left, market=_market()) as simulation:
        assert len(await _active(simulation)) == 4


async def test_more_symbols_than_allowed_are_refused(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A PUT is refused as a whole; a listing that is one too many is logged, the others stay."""
    market = _market(unlisted=("ETHUSDT",))
    async with open_simulation(symbols=[], market=market, max_symbols=3) as simulation:
        everything = {"match": {"name": "*"}, "intervals": ["1m"]}
        error = await _call(simulation, "PUT", PATH, {"subscriptions": [everything]}, status=409)
        assert "comes to 6 symbols, more than the 3 allowed" in error["error"]
        assert await _active(simulation) == set()
        await _put(simulation, PERPETUALS)
        before = await _active(simulation)
        market.list("ETHUSDT")
        await trio.sleep(HOUR_S)
        assert await _active(simulation) == before
        now = await _call(simulation, "GET", PATH)
        assert [each["symbol"] for each in now["refused"]] == ["ETHUSDT"]
        # What was accepted is accepted again, and so is less.
        assert (await _put(simulation, PERPETUALS))["added"] == 0
    assert len(logged(caplog, "symbols_refused")) == 1


async def test_more_patterns_than_allowed_are_refused(autojump_clock: MockClock) -> None:
    """Each costs time with every list of symbols; those that exist may be changed."""
    market = _market()
    patterns = [
        {"match": {"name": f"*{number}"}, "intervals": ["1m"]} for number in range(MOST_PATTERNS)
    ]
    async with open_simulation(symbols=[], market=market) as simulation:
        await _put(simulation, *patterns)
        body = {"add": [PERPETUALS]}
        error = await _call(simulation, "PATCH", PATH, body, status=400)
        assert (
            "the set comes to 101 patterns, more than the 100 allowed: name symbols"
            in error["error"]
        )
        body = {"add": [{"symbols": ["BTCUSDT"], "intervals": ["1m"]}]}
        assert (await _call(simulation, "PATCH", PATH, body))["added"] == 1


async def test_a_symbol_that_vanishes_frees_its_place(autojump_clock: MockClock) -> None:
    """When one is delisted, the one that was too many starts."""
    market = _market(unlisted=("ETHUSDT",))
    async with open_simulation(symbols=[], market=market, max_symbols=3, history=0) as simulation:
        await _put(simulation, PERPETUALS)
        market.list("ETHUSDT")
        await trio.sleep(HOUR_S)
        market.delist("SOLUSDT")
        await trio.sleep(PROVEN_WITHIN_S)
        assert {symbol for symbol, _ in await _active(simulation)} == {
            "BTCUSDT",
            "ETHUSDT",
            "币安人生USDT",
        }


@pytest.mark.parametrize(("symbols", "feeds", "history"), [(80, 2, 0), (8, 1, 500)])
async def test_a_dry_run_forecasts_what_then_happens(
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
    symbols: int,
    feeds: int,
    history: int,
) -> None:
    """It changes nothing; connections, streams, candles and weight come as forecast."""
    spent = 0
    ask = RestClient.candles

    async def candles(rest: RestClient, *args: Any) -> CandleAnswer:
        nonlocal spent
        spent += rest.venue.klines_weight(args[2].limit)
        return await ask(rest, *args)

    monkeypatch.setattr(RestClient, "candles", candles)
    wanted = {"match": {"quote": "USDT"}, "intervals": "all"}
    async with open_simulation(
        symbols=["BTCUSDT"], market=_market(symbols), history=history
    ) as simulation:
        await trio.sleep(MINUTE_S)
        before, spent = simulation.agent.registry.count(), 0
        assert (await _put(simulation, wanted, query="?dry_run=1"))["dry_run"]
        await trio.sleep(2 * MINUTE_S)
        assert simulation.agent.registry.count() == before
        assert spent == 0
        forecast = await _put(simulation, wanted, query="?dry_run=1")
        done = await _put(simulation, wanted)
        assert {**done, "dry_run": True} == forecast
        await trio.sleep(forecast["forecast"]["subscribe_seconds"])
        assert len(await _active(simulation)) == done["wanted"] == (symbols + 4) * 15
        assert len(simulation.agent.pool.slots) == forecast["forecast"]["feeds"] == feeds
        await trio.sleep(MINUTE_S * forecast["forecast"]["history_minutes"] + 2 * MINUTE_S)
        rows = sum(kline.is_closed for kline in simulation.store.klines.values())
        assert rows >= forecast["forecast"]["history_candles"]
        assert spent == forecast["forecast"]["history_weight"]


async def test_a_change_of_a_whole_market_does_not_hold_up_other_tasks(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither while it is computed, nor while it is answered."""
    for module in (desired_module, forecast_module):
        monkeypatch.setattr(module, "SYMBOLS_AT_ONCE", 1)
    market = _market(100)
    wanted = {"match": {"name": "*"}, "intervals": ["1m"]}
    async with open_simulation(symbols=[], market=market, max_symbols=200, history=0) as simulation:
        tell = partial(_call, simulation, "GET", PATH)
        try_ = partial(_put, simulation, query="?dry_run=1")
        # By far more passes than it takes anyhow: the order in which Trio runs tasks is random.
        at_least = await _turns_during(tell) + 50
        assert await _turns_during(try_) < at_least < await _turns_during(partial(try_, wanted))
        await _put(simulation, wanted)
        await trio.sleep(SOON_S)
        assert await _turns_during(tell) > at_least


async def test_a_whole_market_is_added_and_removed(autojump_clock: MockClock) -> None:
    """600 symbols at 15 intervals, within the exchange's limits, and none of them later on."""
    market = _market(600)
    names = [listing.symbol for listing in market.listings][:600]
    async with open_simulation(symbols=[], market=market, max_symbols=600, history=0) as simulation:
        wanted = {"symbols": names, "intervals": "all"}
        outcome = await _put(simulation, wanted)
        assert (outcome["added"], outcome["forecast"]["feeds"]) == (9_000, 9)
        assert len(await _active(simulation)) == 9_000
        again = await _put(simulation, wanted)
        assert (again["added"], again["removed"]) == (0, 0)
        gone = await _put(simulation)
        assert (gone["removed"], gone["forecast"]["feeds"]) == (9_000, 0)
        assert await _active(simulation) == set()
        assert not simulation.exchange.breaches


@pytest.mark.parametrize("steps", range(6))
async def test_a_series_removed_during_a_reconciliation_does_not_start(
    autojump_clock: MockClock, steps: int
) -> None:
    """The registry may not have reached it yet."""
    market = _market(20)
    *others, last = [listing.symbol for listing in market.listings][:20]
    async with open_simulation(symbols=[], market=market, history=0) as simulation:
        desired = simulation.agent.desired
        named = dict.fromkeys([*others, last], M1)
        desired.adopt(desired.demand.change(Selection(named=named)))
        for _ in range(steps):
            await trio.lowlevel.checkpoint()
        await desired.remove(last, Interval.M1)
        assert await _active(simulation) == {(symbol, "1m") for symbol in others}


@pytest.mark.parametrize("steps", range(6))
async def test_a_series_added_while_it_is_stopped_runs(
    autojump_clock: MockClock, steps: int
) -> None:
    """A caller that learned that it ran already can rely on it."""
    market = _market(60)
    named = {listing.symbol: M1 for listing in market.listings}
    async with open_simulation(symbols=[], market=market, history=0) as simulation:
        desired = simulation.agent.desired
        desired.adopt(desired.demand.change(Selection(named=named)))
        await trio.sleep(SOON_S)
        desired.adopt(desired.demand.change(Selection()))
        for _ in range(steps):
            await trio.lowlevel.checkpoint()
        await desired.add("BTCUSDT", Interval.M1)
        assert await _active(simulation) == {("BTCUSDT", "1m")}
        assert desired.demand.resolution.wanted == {"BTCUSDT": M1}


async def test_before_the_symbols_are_known_nothing_can_be_judged(
    autojump_clock: MockClock,
) -> None:
    """A PUT is 504 with the reason; GET and what was saved do not wait."""
    state = MemoryDisk()
    state.write("subscriptions.json", encode({"usdm": Selection(named={"BTCUSDT": M1})}))
    market = _market()
    async with open_exchange(market, venue_named("usdm")) as exchange, trio.open_nursery() as calls:
        network = TwinNetwork(exchange, calls)
        config = Config(
            store="memory:", command_bind=LOOPBACK, status_bind=LOOPBACK, read_bind=None
        )
        with exchange.offline():
            async with open_agent(
                config, network=network, store=MemoryStore(), state=state
            ) as agent:
                client = agent.command.test_client()
                response = await client.put(PATH, json={"subscriptions": []})
                assert response.status_code == 504
                assert "within 5 s: no answer" in (await response.get_json())["error"]
                now = await (await client.get(PATH)).get_json()
                assert now["streams"]["wanted"] == 1
                assert agent.registry.count() == 1
        calls.cancel_scope.cancel()


async def _figures(simulation: Simulation) -> Figures:
    return await Asker(simulation.agent, simulation.store).figures()


@contextmanager
def _not_listed(simulation: Simulation, *symbols: str) -> Iterator[None]:
    """The exchange's list does not name `symbols`; their streams and candles go on."""
    rest = simulation.exchange.rest
    listings = rest.listings
    rest.listings = tuple(each for each in listings if each.symbol not in symbols)
    yield
    rest.listings = listings


async def test_an_agent_of_which_all_symbols_are_refused_is_not_ready(
    autojump_clock: MockClock,
) -> None:
    """One that records something is ready, and so is one without any desired series."""
    gone, ready = "BTCUSTD", {"ready": True, "reasons": []}
    async with open_simulation(
        symbols=["BTCUSDT", gone], intervals=[Interval.M1], market=_market()
    ) as simulation:
        status = simulation.agent.status.test_client()
        await trio.sleep(5 * MINUTE_S)
        assert await (await status.get("/ready")).get_json() == ready
        await _call(simulation, "POST", "/symbols/remove", {"symbols": ["BTCUSDT"]})
        await trio.sleep(5 * MINUTE_S)
        answer = await status.get("/ready")
        reason = f"no wanted symbol can be recorded: {gone} does not exist on usdm"
        assert answer.status_code == 503
        assert await answer.get_json() == {
            "ready": False,
            "reasons": [{"part": "series", "reason": reason}],
        }
        assert (await _figures(simulation))("ready") == 0
        await _call(simulation, "POST", "/symbols/remove", {"symbols": [gone]})
        assert await (await status.get("/ready")).get_json() == ready


async def test_a_configured_symbol_that_is_gone_keeps_no_other_from_being_recorded(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """It is reported with the likely name, and it starts when it returns."""
    gone = "BTCUSTD"
    market = _market(unlisted=("SOLUSDT",))
    async with open_simulation(
        symbols=["BTCUSDT", gone, "SOLUSDT"], intervals=[Interval.M1], market=market
    ) as simulation:
        with _not_listed(simulation, "SOLUSDT"):
            await trio.sleep(5 * MINUTE_S)
            assert await _active(simulation) == {("BTCUSDT", "1m")}
            now = await _call(simulation, "GET", PATH)
            assert {each["symbol"]: each["reason"] for each in now["refused"]} == {
                gone: f"{gone} does not exist on usdm",
                "SOLUSDT": "SOLUSDT does not exist on usdm",
            }
            assert (await _figures(simulation))("symbols_refused") == 2
        market.list("SOLUSDT")
        await trio.sleep(5 * MINUTE_S)
        assert await _active(simulation) == {("BTCUSDT", "1m"), ("SOLUSDT", "1m")}
        assert (await _figures(simulation))("symbols_refused") == 1
    assert [line["reasons"] for line in logged(caplog, "symbols_refused")] == [
        [f"{gone} does not exist on usdm; did you mean BTCUSDT?"],
        ["SOLUSDT does not exist on usdm"],
    ]
    assert [each["symbols"] for each in logged(caplog, "symbols_listed")] == [["SOLUSDT"]]


@pytest.mark.parametrize("origin", ["configuration", "http", "pattern"])
async def test_a_symbol_that_leaves_the_list_for_some_minutes_stays_complete(
    autojump_clock: MockClock, origin: str
) -> None:
    """The list may have been cut short: what ran goes on or comes back, and is complete."""
    symbols = ["BTCUSDT", "ETHUSDT"] if origin == "configuration" else ["BTCUSDT"]
    async with open_simulation(
        symbols=symbols, intervals=[Interval.M1, Interval.H1], market=_market(), history=0
    ) as simulation:
        if origin == "http":
            await _put(simulation, {"symbols": ["ETHUSDT"], "intervals": ["1m", "1h"]})
        elif origin == "pattern":
            await _put(simulation, {"match": {"name": "ETH*"}, "intervals": ["1m", "1h"]})
        await trio.sleep(10 * MINUTE_S)
        first_ms = simulation.exchange.clock.now_ms() // MINUTE_MS * MINUTE_MS
        with _not_listed(simulation, "ETHUSDT"):
            await trio.sleep(20 * MINUTE_S)
            assert ("ETHUSDT", "1h") in await _active(simulation)  # its candle is still open
        await trio.sleep(20 * MINUTE_S)
        assert {("ETHUSDT", "1m"), ("ETHUSDT", "1h")} <= await _active(simulation)
        opens = {kline.open_time for kline in closed(simulation.store, "ETHUSDT", Interval.M1)}
        last_ms = simulation.exchange.clock.now_ms() - 2 * MINUTE_MS
        assert opens >= set(range(first_ms, last_ms, MINUTE_MS))
