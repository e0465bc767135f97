"""The set over HTTP: what is refused, and what a change changes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from klineagent.core.interval import Interval
from klineagent.storage.memory.disk import MemoryDisk
from klineagent.testing.simulation import Simulation, open_simulation

PATH = "/v1/subscriptions"
EVERYTHING = {
    "match": {"name": "*", "quote": "", "contract": "", "exclude": []},
    "intervals": ["1m"],
}
BTC = {"symbols": ["BTCUSDT"], "intervals": ["1m"]}


@pytest.fixture
async def simulation() -> AsyncIterator[Simulation]:
    """An agent with an empty set, and seven symbols on its exchange."""
    async with open_simulation(symbols=[], intervals=[Interval.M1, Interval.H1]) as running:
        yield running


async def _call(
    simulation: Simulation, method: str, path: str, body: object = None
) -> tuple[int, Any]:
    client = simulation.agent.command.test_client()
    response = await client.open(path, method=method, json=body)
    return response.status_code, await response.get_json()


async def _patch(simulation: Simulation, **body: object) -> Any:
    status, answer = await _call(simulation, "PATCH", PATH, body)
    assert status == 200, answer
    return answer


async def _written(simulation: Simulation) -> tuple[Any, Any]:
    _, now = await _call(simulation, "GET", PATH)
    wanted = [{k: v for k, v in each.items() if k != "from"} for each in now["subscriptions"]]
    return wanted, now["exclude"]


async def test_an_empty_set(autojump_clock: MockClock, simulation: Simulation) -> None:
    """Nothing is wanted, nothing runs, and all fields are there."""
    assert await _call(simulation, "GET", PATH) == (
        200,
        {
            "subscriptions": [],
            "exclude": [],
            "symbols": 0,
            "max_symbols": 100,
            "streams": {"wanted": 0, "active": 0, "pending": 0, "ending": 0},
            "pending": [],
            "refused": [],
            "unmatched": [],
            "saved": False,
        },
    )


@pytest.mark.parametrize(
    ("method", "body", "named"),
    [
        ("PUT", {}, "subscriptions"),
        ("PUT", {"subscriptions": [], "excluded": []}, "excluded"),
        ("PUT", {"subscriptions": [{"symbols": ["X"], "intervals": ["1m"]}]}, "symbols[0]: X"),
        ("PUT", {"subscriptions": [{"symbols": ["X"]}]}, "intervals"),
        ("PUT", {"subscriptions": [{**BTC, "intervals": ["1h", "7m"]}]}, "intervals[1]: '7m'"),
        ("PUT", {"subscriptions": [{**BTC, "match": {}}]}, "subscriptions[0]: expected"),
        ("PUT", {"subscriptions": [EVERYTHING, 7]}, "$.subscriptions[1]"),
        ("PATCH", {"add": [{"symbols": ["X"], "intervals": ["1m"]}]}, "add[0].symbols[0]: X"),
        ("PATCH", {"remove": [{"symbols": ["X"], "intervals": ["1m"]}]}, "remove[0].symbols[0]"),
        ("PATCH", {"add": [], "removed": []}, "removed"),
        ("PUT", {"subscriptions": [{"match": {}, "intervals": ["1m"]}]}, '{"name": "*"}'),
        (
            "PATCH",
            {"add": [{"match": {"name": "BTC[US"}, "intervals": ["1m"]}]},
            "add[0].match.name: 'BTC[US'",
        ),
        ("PATCH", [], "array"),
    ],
)
async def test_what_is_wrong_is_named_and_changes_nothing(
    autojump_clock: MockClock, simulation: Simulation, method: str, body: object, named: str
) -> None:
    """By its field; the rest of the request does not count either."""
    await _call(simulation, "PUT", PATH, {"subscriptions": [BTC]})
    status, answer = await _call(simulation, method, PATH, body)
    assert (status, list(answer)) == (400, ["error"])
    assert named in answer["error"]
    assert await _written(simulation) == ([BTC], [])


@pytest.mark.parametrize("query", ["?dry_run=1", ""])
async def test_a_pattern_that_matches_nothing_is_taken_and_told(
    autojump_clock: MockClock, simulation: Simulation, query: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It may match later; a dry run reports it as well, and each is logged once."""
    nothing = {"name": "NOPE*", "quote": "", "contract": "", "exclude": []}
    wanted = {"match": {"name": "nope*"}, "intervals": ["1m"]}
    for method, body in (
        ("PUT", {"subscriptions": [wanted, EVERYTHING]}),
        ("PATCH", {"add": [wanted]}),
    ):
        status, answer = await _call(simulation, method, f"{PATH}{query}", body)
        assert (status, answer["unmatched"]) == (200, [nothing])
    _, now = await _call(simulation, "GET", PATH)
    assert now["unmatched"] == ([] if query else [nothing])
    logged = [each for each in caplog.records if each.msg == "patterns_match_nothing"]
    assert [vars(each)["patterns"] for each in logged] == ([] if query else [["NOPE*"]])


async def test_a_dry_run_saves_nothing_and_says_so(autojump_clock: MockClock) -> None:
    """What it tells of is no set that would survive; the set itself is saved as it was."""
    async with open_simulation(symbols=[], state=MemoryDisk()) as simulation:
        body = {"subscriptions": [BTC]}
        for query, saved in (("?dry_run=1", False), ("", True)):
            _, answer = await _call(simulation, "PUT", f"{PATH}{query}", body)
            assert answer["saved"] is saved
        _, now = await _call(simulation, "GET", PATH)
        assert now["saved"] is True


async def test_a_parameter_that_is_wrong_is_named(
    autojump_clock: MockClock, simulation: Simulation
) -> None:
    """A misspelled dry run must not change anything."""
    for query, named in (("dry-run=1", "dry-run"), ("dry_run=perhaps", "dry_run")):
        status, answer = await _call(simulation, "PUT", f"{PATH}?{query}", {"subscriptions": [BTC]})
        assert status == 400
        assert named in answer["error"]
    assert await _written(simulation) == ([], [])


async def test_patches_add_up(autojump_clock: MockClock, simulation: Simulation) -> None:
    """Each reports what it changes; repeated, it changes nothing."""
    for added in (1, 0):
        answer = await _patch(simulation, add=[BTC])
        assert (answer["added"], answer["removed"]) == (added, 0)
    answer = await _patch(simulation, add=[EVERYTHING, {**BTC, "intervals": ["1h"]}])
    assert (answer["added"], answer["wanted"]) == (7, 8)
    both = {"symbols": ["BTCUSDT"], "intervals": ["1m", "1h"]}
    assert await _written(simulation) == ([both, EVERYTHING], [])
    # What names the symbol is gone; the pattern still wants it at 1m, so that is an exception.
    for removed in (2, 0):
        answer = await _patch(simulation, remove=[both])
        assert (answer["added"], answer["removed"]) == (0, removed)
    assert await _written(simulation) == ([EVERYTHING], [BTC])
    # Exceptions end with what is added, in the same request as well.
    answer = await _patch(simulation, remove=[EVERYTHING], add=[BTC])
    assert answer["added_streams"] == ["BTCUSDT 1m"]
    assert await _written(simulation) == ([BTC], [])


async def test_the_old_commands_change_the_set(
    autojump_clock: MockClock, simulation: Simulation
) -> None:
    """What they start is wanted, what they stop is not, and patterns get exceptions."""
    await _call(simulation, "POST", "/streams/add", {"symbol": "BTCUSDT", "interval": "5m"})
    await _call(simulation, "POST", "/symbols/add", {"symbols": ["ETHUSDT"]})
    expected: list[dict[str, object]] = [
        {"symbols": ["BTCUSDT"], "intervals": ["5m"]},
        {"symbols": ["ETHUSDT"], "intervals": ["1m", "1h"]},
    ]
    assert await _written(simulation) == (expected, [])
    await _patch(simulation, add=[EVERYTHING])
    status, answer = await _call(
        simulation, "POST", "/symbols/remove", {"symbols": ["ETHUSDT", "btcusdt", "NOSUCH"]}
    )
    assert (status, answer["status"]) == (200, "partial")
    assert [
        (each["symbol"], each["success_count"], each["total_count"]) for each in answer["results"]
    ] == [("ETHUSDT", 2, 2), ("BTCUSDT", 2, 2), ("NOSUCH", 0, 0)]
    exception = {"symbols": ["ETHUSDT", "BTCUSDT"], "intervals": ["1m"]}
    wanted, excluded = await _written(simulation)
    assert wanted == [EVERYTHING]
    assert sorted(excluded[0].pop("symbols")) == sorted(exception.pop("symbols"))
    assert excluded == [exception]
    status, answer = await _call(simulation, "POST", "/symbols/remove", {"symbols": ["ETHUSDT"]})
    assert (status, answer["error"]) == (404, "ETHUSDT does not run")


async def test_an_add_that_fails_leaves_the_set_as_it_was(
    autojump_clock: MockClock, simulation: Simulation
) -> None:
    """Also its exceptions; what is wanted anyway is tried again."""
    await _patch(simulation, add=[EVERYTHING])
    await trio.sleep(10)
    await _patch(simulation, remove=[BTC])
    await trio.sleep(10)
    before = await _written(simulation)
    with simulation.exchange.offline():
        await trio.sleep(1)
        status, _ = await _call(simulation, "POST", "/symbols/add", {"symbols": ["BTCUSDT"]})
        assert status == 504
        assert await _written(simulation) == before
        status, _ = await _call(
            simulation, "POST", "/streams/add", {"symbol": "ETHUSDT", "interval": "1m"}
        )
        assert status == 200  # it runs, as far as one can in an outage
    await trio.sleep(120)
    _, now = await _call(simulation, "GET", PATH)
    assert now["streams"]["active"] == now["streams"]["wanted"] == simulation.agent.registry.count()


_wanted = st.fixed_dictionaries(
    {"intervals": st.sampled_from(["all", ["1m"], ["1s"], [], [""], 7])},
    optional={
        "symbols": st.lists(st.text(max_size=5) | st.just("BTCUSDT"), max_size=3),
        "match": st.fixed_dictionaries(
            {},
            optional={
                "name": st.text(max_size=8) | st.text("*?[]!-A", max_size=12),
                "quote": st.sampled_from(["USDT", "", "X"]),
                "exclude": st.lists(st.text(max_size=4), max_size=2),
            },
        ),
        "from": st.sampled_from(["http", "configuration", "x"]),
    },
)


@pytest.mark.slow
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    method=st.sampled_from(["PUT", "PATCH"]),
    lists=st.dictionaries(
        st.sampled_from(["subscriptions", "exclude", "add", "remove"]),
        st.lists(_wanted, max_size=2),
    ),
)
async def test_no_set_is_answered_by_a_bug(
    autojump_clock: MockClock, simulation: Simulation, method: str, lists: dict[str, object]
) -> None:
    """It is taken, or refused with a reason."""
    status, answer = await _call(simulation, method, f"{PATH}?dry_run=true", lists)
    assert status in {200, 400, 409}
    assert (status == 200) == ("error" not in answer)
