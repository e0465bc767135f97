"""Requests about symbols of several venues, and clients that know of one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

import pytest
import trio
from trio.testing import MockClock

from klineagent.api.routes.limits import limits_of
from klineagent.core.interval import Interval
from klineagent.exchange.venues import COINM, SPOT, USDM, Venue
from klineagent.series.venues import RunningVenue, Venues
from klineagent.testing.simulation import Simulation, open_simulation
from tests.simulations.asking import Asker, Figures

MINUTE = (Interval.M1,)


@pytest.fixture
async def two() -> AsyncIterator[Simulation]:
    """An agent of USD-M that records a symbol of spot, too, and could record COIN-M."""
    async with open_simulation(
        symbols=["BTCUSDT", "spot:BTCUSDT"], intervals=MINUTE, beside=[SPOT, COINM], history=0
    ) as simulation:
        await trio.sleep(90)
        yield simulation


async def _call(
    simulation: Simulation, method: str, path: str, body: object = None, **query: object
) -> tuple[int, Any]:
    client = simulation.agent.command.test_client()
    path += f"?{urlencode(query)}" if query else ""
    response = await client.open(path, method=method, json=body)
    return response.status_code, await response.get_json()


async def _get(simulation: Simulation, path: str, **query: object) -> Any:
    status, answer = await _call(simulation, "GET", path, **query)
    assert status == 200, answer
    return answer


async def _running(simulation: Simulation) -> list[str]:
    listed = await _get(simulation, "/connections/list")
    return sorted(f"{each['symbol']} {each['interval']}" for each in listed["connections"])


# Commands


async def test_symbols_of_the_default_venue_are_answered_as_ever(
    autojump_clock: MockClock, two: Simulation
) -> None:
    """Without a field that old clients do not know; those of another venue have their venue."""
    assert await _get(two, "/symbols") == {"symbols": ["BTCUSDT", "spot:BTCUSDT"], "count": 2}
    assert await _get(two, "/connections/count") == {"connection_count": 2}
    listed = await _get(two, "/connections/list")
    ours, other = ({**each, "created_at": ""} for each in listed["connections"])
    told = {"interval": "1m", "created_at": "", "is_active": True}
    assert ours == {"symbol": "BTCUSDT", **told}
    assert other == {"symbol": "spot:BTCUSDT", "venue": "spot", **told}


@pytest.mark.parametrize(
    "named",
    [
        {"symbol": "spot:ETHUSDT"},
        {"symbol": " Spot: ethusdt "},
        {"symbol": "ETHUSDT", "venue": "spot"},
        {"symbol": "spot:ETHUSDT", "venue": "SPOT"},
    ],
)
async def test_a_symbol_is_named_with_its_venue_or_beside_it(
    autojump_clock: MockClock, two: Simulation, named: dict[str, str]
) -> None:
    """All mean the same; the answer names it so that it can be sent back."""
    body = {**named, "interval": "1m"}
    status, answer = await _call(two, "POST", "/streams/add", body)
    assert (status, answer["message"]) == (200, "Added stream for spot:ETHUSDT 1m")
    assert await _running(two) == ["BTCUSDT 1m", "spot:BTCUSDT 1m", "spot:ETHUSDT 1m"]
    status, answer = await _call(two, "POST", "/symbols/remove", {"symbols": ["spot:ETHUSDT"]})
    [result] = answer["results"]
    assert (status, result["symbol"], result["venue"]) == (200, "spot:ETHUSDT", "spot")
    status, answer = await _call(two, "POST", "/streams/remove", body)
    assert (status, answer) == (404, {"error": "spot:ETHUSDT 1m does not run"})


async def test_the_default_venue_may_be_named(autojump_clock: MockClock, two: Simulation) -> None:
    """The answers are those of a bare symbol."""
    for named in ({"symbol": "usdm:ETHUSDT"}, {"symbol": "ETHUSDT", "venue": "usdm"}):
        _, answer = await _call(two, "POST", "/streams/add", {**named, "interval": "1m"})
        assert answer["message"] == "Added stream for ETHUSDT 1m"
    assert await _running(two) == ["BTCUSDT 1m", "ETHUSDT 1m", "spot:BTCUSDT 1m"]


async def test_a_command_opens_a_venue_that_does_not_run(
    autojump_clock: MockClock, two: Simulation
) -> None:
    """Only one that wants something of it: what does not run needs no opening to be removed."""
    gone = {"symbol": "coinm:BTCUSD_PERP", "interval": "1m"}
    status, _ = await _call(two, "POST", "/streams/remove", gone)
    assert status == 404
    assert two.agent.venues.get("coinm") is None
    status, answer = await _call(
        two, "POST", "/symbols/add", {"symbols": ["BTCUSD_PERP", "coinm:NOSUCH"], "venue": "coinm"}
    )
    assert (status, answer["status"]) == (200, "partial")
    ours, wrong = answer["results"]
    assert (ours["symbol"], ours["venue"], ours["success_count"]) == (
        "coinm:BTCUSD_PERP",
        "coinm",
        1,
    )
    assert wrong["error"] == "symbol: NOSUCH does not exist on coinm"
    assert answer["summary"]["failed_symbols"] == ["coinm:NOSUCH"]
    assert answer["current_status"]["symbols"] == ["BTCUSDT", "coinm:BTCUSD_PERP", "spot:BTCUSDT"]


async def test_symbols_are_added_at_the_intervals_that_their_venue_has(
    autojump_clock: MockClock,
) -> None:
    """Only spot has candles of a second."""
    async with open_simulation(
        symbols=[], intervals=[Interval.S1, Interval.M1], venue=SPOT, beside=[COINM], history=0
    ) as simulation:
        _, answer = await _call(
            simulation, "POST", "/symbols/add", {"symbols": ["BTCUSDT", "coinm:BTCUSD_PERP"]}
        )
        assert [each["total_count"] for each in answer["results"]] == [2, 1]
        assert await _running(simulation) == ["BTCUSDT 1m", "BTCUSDT 1s", "coinm:BTCUSD_PERP 1m"]
        body = {"symbol": "coinm:BTCUSD_PERP", "interval": "1s"}
        status, answer = await _call(simulation, "POST", "/streams/add", body)
        assert status == 400
        assert "'1s' does not exist on coinm" in answer["error"]


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"symbol": "margin:BTCUSDT"}, "symbol: 'margin' is no venue; use one of usdm, coinm"),
        ({"symbol": ":BTCUSDT"}, "symbol: '' is no venue"),
        ({"symbol": "BTCUSDT", "venue": "margin"}, "symbol: 'margin' is no venue"),
        ({"symbol": "spot:"}, "symbol: the name is empty"),
        ({"symbol": "spot:BTCUSDT", "venue": "usdm"}, "is not of the venue beside it, usdm"),
        ({"symbol": "BTCUSDT", "venue": 7}, "$.venue"),
        ({"symbol": "spot:NOSUCH"}, "NOSUCH does not exist on spot"),
    ],
)
async def test_a_venue_that_is_wrong_is_named(
    autojump_clock: MockClock, two: Simulation, body: dict[str, object], named: str
) -> None:
    """As any other field, and nothing is added."""
    status, answer = await _call(two, "POST", "/streams/add", {**body, "interval": "1m"})
    assert status == 400
    assert named in answer["error"]
    assert await _running(two) == ["BTCUSDT 1m", "spot:BTCUSDT 1m"]


async def test_a_venue_that_does_not_answer_is_named(
    autojump_clock: MockClock, two: Simulation
) -> None:
    """The others confirm as ever."""
    with two.exchanges["coinm"].offline():
        body = {"symbol": "coinm:BTCUSD_PERP", "interval": "1m"}
        status, answer = await _call(two, "POST", "/streams/add", body)
        assert status == 504
        assert "did not confirm within 29 s: no answer from dapi.binance.com: " in answer["error"]
        body = {"symbol": "spot:ETHUSDT", "interval": "1m"}
        status, _ = await _call(two, "POST", "/streams/add", body)
        assert status == 200
    assert await _running(two) == ["BTCUSDT 1m", "spot:BTCUSDT 1m", "spot:ETHUSDT 1m"]


# Answers about the data


async def _covered(simulation: Simulation, **query: object) -> list[str]:
    """The series of all pages, three on each."""
    found: list[str] = []
    after: str | None = ""
    while after is not None:
        page = await _get(simulation, "/v1/coverage", limit=3, after=after, **query)
        found += [f"{each['symbol']} {each['interval']}" for each in page["series"]]
        assert page["total"] == simulation.agent.venues.count()
        after = page["next"]
    return found


async def test_coverage_is_that_of_all_venues_or_of_one(autojump_clock: MockClock) -> None:
    """Pages go over from one venue to the next; a symbol of two venues is two series."""
    async with open_simulation(
        symbols=["BTCUSDT", "ETHUSDT", "spot:BTCUSDT", "coinm:BTCUSD_PERP"],
        intervals=[Interval.M1, Interval.H1],
        beside=[SPOT, COINM],
        history=0,
    ) as simulation:
        await trio.sleep(150)
        usdm = ["BTCUSDT 1m", "BTCUSDT 1h", "ETHUSDT 1m", "ETHUSDT 1h"]
        coinm = ["coinm:BTCUSD_PERP 1m", "coinm:BTCUSD_PERP 1h"]
        spot = ["spot:BTCUSDT 1m", "spot:BTCUSDT 1h"]
        assert await _covered(simulation) == usdm + coinm + spot
        assert await _covered(simulation, venue="spot") == spot
        assert await _covered(simulation, venue="USDM") == usdm
        assert await _covered(simulation, symbol="spot:btcusdt") == spot
        assert await _covered(simulation, symbol="BTCUSDT", venue="spot") == spot
        assert await _covered(simulation, symbol="BTCUSDT") == usdm[:2]
        assert await _covered(simulation, interval="1h") == [usdm[1], usdm[3], coinm[1], spot[1]]
        # Spot has such candles, and none is recorded.
        assert await _covered(simulation, interval="1s") == []
        page = await _get(simulation, "/v1/coverage", symbol="spot:BTCUSDT", interval="1m")
        [series] = page["series"]
        assert (series["venue"], series["expected"]) == ("spot", 2)
        status, answer = await _call(
            simulation, "GET", "/v1/coverage", venue="coinm", interval="1s"
        )
        assert status == 400
        assert "does not exist on coinm" in answer["error"]


async def test_a_candle_is_explained_on_its_venue(
    autojump_clock: MockClock, two: Simulation
) -> None:
    """Two venues have each a candle of that name and time; one that does not run has none."""
    await trio.sleep(60)
    asked = {"symbol": "BTCUSDT", "interval": "1m", "open_time": "2026-02-01T00:01:00Z"}
    rows = {}
    for venue, symbol in (("usdm", "BTCUSDT"), ("spot", "spot:BTCUSDT")):
        why = await _get(two, "/v1/why", **asked, venue=venue)
        assert (why["symbol"], why["venue"], why["state"]) == (symbol, venue, "stored")
        rows[venue] = why["store"]["row"]
        assert await _get(two, "/v1/why", **{**asked, "symbol": symbol}) == why
    assert rows["usdm"]["close"] != rows["spot"]["close"]
    why = await _get(two, "/v1/why", **asked, venue="coinm")
    assert (why["symbol"], why["state"]) == ("coinm:BTCUSDT", "not_covered")
    assert two.agent.venues.get("coinm") is None


async def test_limits_are_those_of_each_venue(autojump_clock: MockClock, two: Simulation) -> None:
    """The agent's own as ever; both futures venues have one weight pool."""
    await _call(two, "POST", "/symbols/add", {"symbols": ["coinm:BTCUSD_PERP"]})
    limits = await _get(two, "/v1/limits")
    assert (limits["venue"], limits["rest"]["limit"]) == ("usdm", 1_920)
    spot, coinm = limits["others"]
    assert (spot["venue"], spot["rest"]["pool"], spot["rest"]["limit"]) == ("spot", "spot", 4_800)
    assert (coinm["venue"], coinm["rest"]["pool"]) == ("coinm", "futures")
    assert limits["rest"]["used"] == coinm["rest"]["used"] > 0
    assert (spot["messages"]["limit_per_second"], coinm["streams"]["wanted"]) == (3, 1)


async def test_limits_begin_with_those_of_the_default_venue(
    autojump_clock: MockClock, two: Simulation
) -> None:
    """Also if another one was opened before it."""

    @asynccontextmanager
    async def open_again(venue: Venue) -> AsyncIterator[RunningVenue]:
        yield two.agent.venues.running(venue)

    async with trio.open_nursery() as nursery:
        venues = Venues(
            default=USDM, places=two.agent.venues.places, open=open_again, nursery=nursery
        )
        for venue in (SPOT, USDM):
            await venues.open(venue)
        limits = limits_of(venues)
        assert (limits.venue, [each.venue for each in limits.others]) == ("usdm", ["spot"])
        nursery.cancel_scope.cancel(reason="the test is over")


async def test_limits_of_one_venue_have_no_others(
    autojump_clock: MockClock, simulation: Simulation
) -> None:
    """As short as they were."""
    assert (await _get(simulation, "/v1/limits")).keys() == {
        "venue",
        "rest",
        "connections",
        "streams",
        "messages",
    }


async def test_connections_are_listed_venue_by_venue(
    autojump_clock: MockClock, two: Simulation
) -> None:
    """Each venue numbers its own."""
    feeds = (await _get(two, "/v1/feeds"))["feeds"]
    assert [(each["venue"], each["number"], each["streams_carried"]) for each in feeds] == [
        ("usdm", 1, 1),
        ("spot", 1, 1),
    ]


# Health and metrics


async def _ready(simulation: Simulation) -> list[dict[str, str]]:
    answer = await (await simulation.agent.status.test_client().get("/ready")).get_json()
    assert answer["ready"] is not bool(answer["reasons"])
    return [{**each, "reason": ""} for each in answer["reasons"]]


async def _figures(simulation: Simulation) -> Figures:
    return await Asker(simulation.agent, simulation.store).figures()


async def test_readiness_names_the_venue_that_is_not_ready(
    autojump_clock: MockClock, two: Simulation
) -> None:
    """The default one goes without saying."""
    assert await _ready(two) == []
    with two.exchanges["spot"].offline():
        await trio.sleep(120)
        assert await _ready(two) == [{"part": "feeds", "reason": "", "venue": "spot"}]
        with two.exchanges["usdm"].offline():
            await trio.sleep(120)
            assert {"part": "feeds", "reason": ""} in await _ready(two)
            figures = await _figures(two)
            assert figures("feeds", venue="usdm", state="down") == 1
    await trio.sleep(120)
    assert await _ready(two) == []


async def test_a_venue_that_was_opened_in_vain_is_not_waited_for(
    autojump_clock: MockClock, two: Simulation
) -> None:
    """It does not answer, and nothing of it is wanted."""
    with two.exchanges["coinm"].offline():
        body = {"symbol": "coinm:BTCUSD_PERP", "interval": "1m"}
        status, _ = await _call(two, "POST", "/streams/add", body)
        assert status == 504
        assert two.agent.venues.get("coinm") is not None
        assert await _ready(two) == []


async def test_metrics_of_venues_add_up(autojump_clock: MockClock) -> None:
    """Each belongs to its venue, weight to its pool; the whole is their sum."""
    async with open_simulation(
        symbols=["BTCUSDT", "ETHUSDT", "spot:BTCUSDT", "coinm:BTCUSD_PERP"],
        intervals=MINUTE,
        beside=[SPOT, COINM],
        history=10,
    ) as simulation:
        await trio.sleep(150)
        figures = await _figures(simulation)
        venues = {"usdm": 2, "spot": 1, "coinm": 1}
        for venue, symbols in venues.items():
            assert figures("symbols", venue=venue) == symbols
            assert figures("subscriptions", venue=venue, state="active") == symbols
            assert figures("candles_healed_total", venue=venue) == 10 * symbols
            assert figures("feeds", venue=venue, state="up") == 1
            assert figures("close_to_stored_seconds_count", venue=venue) == 2 * symbols
            assert figures("rest_requests_total", venue=venue) > 0
        assert figures("subscriptions") == sum(venues.values())
        pools = {
            labels["pool"]: used for labels, used in figures.samples["klineagent_rest_weight_used"]
        }
        limits = await _get(simulation, "/v1/limits")
        spot = next(each for each in limits["others"] if each["venue"] == "spot")
        assert pools == {"futures": limits["rest"]["used"], "spot": spot["rest"]["used"]}
        assert figures("rest_weight_limit") == 1_920 + 4_800
