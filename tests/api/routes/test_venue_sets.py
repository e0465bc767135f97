"""The desired set of several venues over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from klineagent.core.interval import Interval
from klineagent.exchange.venues import COINM, SPOT
from klineagent.storage.memory.disk import MemoryDisk
from klineagent.testing.simulation import Simulation, open_simulation

PATH = "/v1/subscriptions"
MINUTE = ["1m"]
BTC = {"symbols": ["BTCUSDT"], "intervals": MINUTE}
SPOT_BTC = {"symbols": ["spot:BTCUSDT"], "intervals": MINUTE}
ALL_OF_SPOT = {
    "match": {"name": "spot:*", "quote": "USDT", "contract": "", "exclude": ["E*"]},
    "intervals": MINUTE,
}


@pytest.fixture
async def simulation() -> AsyncIterator[Simulation]:
    """An agent of USD-M with an empty set, which could record spot and COIN-M."""
    async with open_simulation(
        symbols=[], intervals=[Interval.M1], beside=[SPOT, COINM], history=0, max_symbols=8
    ) as running:
        yield running


async def _call(
    simulation: Simulation, method: str, body: object = None, query: str = ""
) -> tuple[int, Any]:
    client = simulation.agent.command.test_client()
    response = await client.open(PATH + query, method=method, json=body)
    return response.status_code, await response.get_json()


async def _put(simulation: Simulation, *subscriptions: object, **more: object) -> Any:
    status, answer = await _call(simulation, "PUT", {"subscriptions": subscriptions, **more})
    assert status == 200, answer
    return answer


async def _patch(simulation: Simulation, **body: object) -> Any:
    status, answer = await _call(simulation, "PATCH", body)
    assert status == 200, answer
    return answer


async def _written(simulation: Simulation) -> tuple[Any, Any]:
    _, now = await _call(simulation, "GET")
    wanted = [{k: v for k, v in each.items() if k != "from"} for each in now["subscriptions"]]
    return wanted, now["exclude"]


async def test_entries_name_their_venue_in_names_or_beside_them(
    autojump_clock: MockClock, simulation: Simulation
) -> None:
    """Names of several venues may be mixed; they are shown so that they can be sent back."""
    answer = await _put(
        simulation,
        {"symbols": ["btcusdt", "spot:BTCUSDT", "coinm:BTCUSD_PERP"], "intervals": MINUTE},
        {"symbols": ["SOLUSDT"], "intervals": MINUTE, "venue": "spot"},
        {"match": {"quote": "USDT", "exclude": ["spot:E*"]}, "intervals": MINUTE, "venue": "spot"},
        exclude=[{"symbols": ["spot:SOLUSDT"], "intervals": MINUTE}],
    )
    assert answer["added_streams"][:2] == ["BTCUSDT 1m", "spot:BTCUSDT 1m"]
    assert answer["added_streams"][-1] == "coinm:BTCUSD_PERP 1m"
    coinm = {"symbols": ["coinm:BTCUSD_PERP"], "intervals": MINUTE, "venue": "coinm"}
    named = {"symbols": ["spot:BTCUSDT", "spot:SOLUSDT"], "intervals": MINUTE, "venue": "spot"}
    excluded = {"symbols": ["spot:SOLUSDT"], "intervals": MINUTE, "venue": "spot"}
    wanted, without = await _written(simulation)
    assert wanted == [BTC, named, {**ALL_OF_SPOT, "venue": "spot"}, coinm]
    assert without == [excluded]
    answer = await _put(simulation, *wanted, exclude=without)
    assert (answer["added"], answer["removed"]) == (0, 0)


async def test_a_pattern_is_that_of_one_venue(
    autojump_clock: MockClock, simulation: Simulation
) -> None:
    """It is removed as it is written, and reported with its venue when it matches nothing."""
    nothing = {"match": {"name": "spot:NOPE*"}, "intervals": MINUTE}
    answer = await _patch(simulation, add=[ALL_OF_SPOT, nothing])
    assert [each["name"] for each in answer["unmatched"]] == ["spot:NOPE*"]
    _, now = await _call(simulation, "GET")
    assert [each["name"] for each in now["unmatched"]] == ["spot:NOPE*"]
    assert now["symbols"] == len(simulation.agent.venues.running(SPOT).registry.symbols()) > 1
    assert simulation.agent.registry.count() == 0
    await _patch(simulation, remove=[ALL_OF_SPOT, nothing])
    assert await _written(simulation) == ([], [])


async def test_put_replaces_the_set_of_all_venues_and_patch_changes_those_it_names(
    autojump_clock: MockClock, simulation: Simulation
) -> None:
    """The counts are those of the whole set."""
    await _put(simulation, BTC, SPOT_BTC)
    answer = await _patch(simulation, add=[{"symbols": ["ETHUSDT"], "intervals": MINUTE}])
    assert (answer["added"], answer["wanted"], answer["symbols"]) == (1, 3, 3)
    answer = await _put(simulation, BTC)
    assert answer["removed_streams"] == ["ETHUSDT 1m", "spot:BTCUSDT 1m"]
    assert (answer["wanted"], answer["forecast"]["rows_per_day"]) == (1, 1440)
    await trio.sleep(5)
    assert simulation.agent.venues.count() == 1


async def test_all_intervals_are_those_of_each_venue(
    autojump_clock: MockClock, simulation: Simulation
) -> None:
    """Without 1s, which spot has; it must be named, and is removed with all others."""
    answer = await _patch(
        simulation, add=[{"symbols": ["BTCUSDT", "spot:BTCUSDT"], "intervals": "all"}]
    )
    assert answer["added"] == 2 * len(COINM.intervals)
    await _patch(simulation, add=[{**SPOT_BTC, "intervals": ["1s"]}])
    answer = await _patch(simulation, remove=[{**SPOT_BTC, "intervals": "all"}])
    assert answer["removed"] == len(SPOT.intervals)
    status, answer = await _call(simulation, "PATCH", {"add": [{**BTC, "intervals": ["1s"]}]})
    assert status == 400
    assert "add[0].intervals[0]: '1s' does not exist on usdm" in answer["error"]


@pytest.mark.parametrize(
    ("entry", "named"),
    [
        ({"symbols": ["BTCUSDT", "margin:BTCUSDT"]}, "add[1].symbols[1]: 'margin' is no venue"),
        ({"symbols": ["BTCUSDT"], "venue": "margin"}, "add[1].symbols[0]: 'margin' is no venue"),
        ({"symbols": ["BTCUSDT", "spot:X"]}, "add[1].symbols[1]: X does not exist on spot"),
        ({"symbols": ["spot:BTCUSDT"], "venue": "coinm"}, "is not of the venue beside it, coinm"),
        ({"symbols": ["spot: "]}, "add[1].symbols[0]: the name is empty"),
        ({"match": {"name": "margin:*"}}, "add[1].match.name: 'margin' is no venue"),
        (
            {"match": {"name": "*", "exclude": ["spot:E*"]}},
            "add[1].match.exclude[0]: spot:E* is not",
        ),
        ({"match": {"name": "spot:"}}, "add[1].match.name: the name is empty"),
        ({"match": {"contract": "PERPETUAL"}, "venue": "spot"}, "add[1].match.contract"),
        ({"venue": "spot"}, "add[1]: expected symbols or match"),
    ],
)
async def test_what_is_wrong_is_named_with_its_place(
    autojump_clock: MockClock, simulation: Simulation, entry: dict[str, object], named: str
) -> None:
    """That in the request, whichever venue it is of; nothing is changed anywhere."""
    body = {"add": [SPOT_BTC, {"intervals": MINUTE, **entry}]}
    status, answer = await _call(simulation, "PATCH", body)
    assert status == 400
    assert named in answer["error"]
    assert await _written(simulation) == ([], [])


async def test_the_symbols_of_all_venues_count(
    autojump_clock: MockClock, simulation: Simulation
) -> None:
    """A change may give the places of one venue to another, but needs no more than there are."""
    usdm = {"match": {"name": "*"}, "intervals": MINUTE}
    coinm = {"match": {"name": "coinm:*"}, "intervals": MINUTE}
    answer = await _put(simulation, usdm)
    most = answer["symbols"]
    assert 4 < most <= 8
    await trio.sleep(5)
    for method, body in (
        ("PUT", {"subscriptions": [usdm, coinm]}),
        ("PATCH", {"add": [coinm]}),
    ):
        status, answer = await _call(simulation, method, body)
        assert status == 409
        assert f"and {most} of other venues, more than the 8 allowed" in answer["error"]
        assert (await _written(simulation))[0][0]["match"]["name"] == "*"
    answer = await _put(simulation, coinm)
    assert (answer["removed"], answer["added"] > 0) == (most, True)
    await trio.sleep(5)
    assert simulation.agent.venues.running(COINM).registry.count() == answer["added"]
    assert simulation.agent.venues.count() == answer["added"]


async def test_one_deadline_is_for_the_symbols_of_all_venues(
    autojump_clock: MockClock, simulation: Simulation
) -> None:
    """One whose symbols come late leaves less time for the next, which is named."""

    async def end_outage_of_spot() -> None:
        with simulation.exchanges["spot"].offline():
            await trio.sleep(1)

    coinm = {**BTC, "symbols": ["coinm:BTCUSD_PERP"]}
    with simulation.exchanges["coinm"].offline():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(end_outage_of_spot)
            await trio.testing.wait_all_tasks_blocked()
            began_at = trio.current_time()
            status, answer = await _call(simulation, "PUT", {"subscriptions": [SPOT_BTC, coinm]})
            assert trio.current_time() - began_at == pytest.approx(5)
    assert status == 504
    assert "within 5 s: coinm: no answer from dapi.binance.com" in answer["error"]


async def test_an_outage_of_one_venue_holds_up_no_change_of_another(
    autojump_clock: MockClock, simulation: Simulation
) -> None:
    """A set that names a venue whose symbols are not known yet is refused as a whole."""
    with simulation.exchanges["spot"].offline():
        began_at = trio.current_time()
        status, answer = await _call(simulation, "PUT", {"subscriptions": [BTC, SPOT_BTC]})
        assert status == 504
        assert "within 5 s: spot: no answer from api.binance.com" in answer["error"]
        assert trio.current_time() - began_at == pytest.approx(5)
        assert await _written(simulation) == ([], [])
        await _put(simulation, BTC)
        await _patch(simulation, add=[{**BTC, "symbols": ["coinm:BTCUSD_PERP"]}])
        assert trio.current_time() - began_at < 6
        _, now = await _call(simulation, "GET")
        assert now["streams"]["wanted"] == 2


async def test_a_dry_run_adds_up_what_each_venue_costs(
    autojump_clock: MockClock,
) -> None:
    """Connections and weight are summed up; venues subscribe, and pools fetch, at the same time."""
    async with open_simulation(
        symbols=[], intervals=[Interval.M1], beside=[SPOT, COINM], history=500
    ) as simulation:
        await trio.sleep(10)
        forecasts = []
        for names in (["BTCUSDT"], ["coinm:BTCUSD_PERP"], ["spot:BTCUSDT"]):
            body = {"subscriptions": [{"symbols": names, "intervals": "all"}]}
            _, answer = await _call(simulation, "PUT", body, "?dry_run=1")
            forecasts.append(answer["forecast"])
        everything = {
            "symbols": ["BTCUSDT", "coinm:BTCUSD_PERP", "spot:BTCUSDT"],
            "intervals": "all",
        }
        _, answer = await _call(simulation, "PUT", {"subscriptions": [everything]}, "?dry_run=1")
        together = answer["forecast"]
        for name in ("feeds", "new_feeds", "history_candles", "history_weight"):
            assert together[name] == sum(each[name] for each in forecasts), name
        assert together["subscribe_seconds"] == max(each["subscribe_seconds"] for each in forecasts)
        assert await _written(simulation) == ([], [])


async def test_a_dry_run_leaves_no_venue_open(
    autojump_clock: MockClock, simulation: Simulation, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether its exchange answers or not; what is carried out opens it anew, and keeps it."""
    await trio.sleep(5)
    body, venues = {"add": [SPOT_BTC]}, simulation.agent.venues
    with simulation.exchanges["spot"].offline():
        assert (await _call(simulation, "PATCH", body, "?dry_run=1"))[0] == 504
    assert venues.get("spot") is None
    status, answer = await _call(simulation, "PATCH", body, "?dry_run=1")
    assert (status, answer["added"]) == (200, 1)
    assert venues.get("spot") is None
    told = len(caplog.records)
    with simulation.exchanges["spot"].offline():
        await trio.sleep(300)  # who still asked would tell that there is no answer
    assert [each.msg for each in caplog.records[told:] if each.levelname == "WARNING"] == []
    await _patch(simulation, add=[SPOT_BTC])
    await _call(simulation, "PATCH", {"remove": [SPOT_BTC]}, "?dry_run=1")
    await trio.sleep(5)
    assert venues.running(SPOT).registry.count() == 1


async def test_a_venue_that_somebody_opens_outlasts_visits(
    autojump_clock: MockClock, simulation: Simulation
) -> None:
    """Even one that is given up at that moment; with nobody left, it does not begin to run."""
    venues = simulation.agent.venues

    async def visit() -> None:
        async with venues.visiting(SPOT):
            raise AssertionError("it was given up before")

    for opens in (False, True):
        async with trio.open_nursery() as nursery, trio.open_nursery() as visitors:
            visitors.start_soon(visit)
            if opens:
                nursery.start_soon(venues.open, SPOT)
            await trio.lowlevel.checkpoint()  # both wait now
            visitors.cancel_scope.cancel()
        await trio.sleep(1)
        assert (venues.get("spot") is not None) is opens


async def test_a_twins_agent_never_opens_a_real_exchange(autojump_clock: MockClock) -> None:
    """Not for a dry run, nor any other command; the answer says how to have both simulated."""
    twin: dict[str, Any] = {"rest_url": "http://127.0.0.1:9", "ws_url": "ws://127.0.0.1:9/market"}
    async with open_simulation(symbols=[], intervals=[Interval.M1], **twin) as simulation:
        client = simulation.agent.command.test_client()
        add = {"symbol": "spot:BTCUSDT", "interval": "1m"}
        for answer in (
            await client.patch(f"{PATH}?dry_run=1", json={"add": [SPOT_BTC]}),
            await client.put(PATH, json={"subscriptions": [BTC, SPOT_BTC]}),
            await client.post("/streams/add", json=add),
        ):
            assert answer.status_code == 400
            told = await answer.get_data(as_text=True)
            assert "--rest-url spot=URL --ws-url spot=URL" in told
        assert len(simulation.agent.venues) == 1


async def test_reasons_name_the_venue(autojump_clock: MockClock, simulation: Simulation) -> None:
    """Of a symbol that is not recorded yet, or cannot be."""
    await _put(simulation, BTC, SPOT_BTC)
    await trio.sleep(5)
    with simulation.exchanges["spot"].offline():
        await trio.sleep(5)
        _, now = await _call(simulation, "GET")
        [pending] = now["pending"]
        assert (pending["symbol"], pending["venue"]) == ("spot:BTCUSDT", "spot")


async def test_the_set_of_all_venues_survives_a_restart(autojump_clock: MockClock) -> None:
    """Venues from which something is wanted are opened at the start."""
    state = MemoryDisk()
    for expected in ([], [BTC, {**SPOT_BTC, "venue": "spot"}]):
        async with open_simulation(
            symbols=[], intervals=[Interval.M1], beside=[SPOT, COINM], state=state, history=0
        ) as simulation:
            await trio.sleep(5)
            assert await _written(simulation) == (expected, [])
            assert (await _put(simulation, BTC, SPOT_BTC))["saved"] is True
