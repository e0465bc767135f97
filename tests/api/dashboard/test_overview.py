"""The overview of an agent."""

from __future__ import annotations

from typing import Any

import h11
import trio
from trio.testing import MockClock

from klineagent.api.dashboard.journal import Journal, after
from klineagent.api.dashboard.overview import OverviewAtOnce, OverviewSource
from klineagent.api.guard import Guard
from klineagent.api.models.overview import LoggedEvent
from klineagent.api.server.shortcuts import ReadyAnswer
from klineagent.api.timings import Timings
from klineagent.core.interval import Interval
from klineagent.process.recent_lines import RecentLines
from klineagent.testing.simulation import Simulation, open_simulation


async def _overview(simulation: Simulation, since: int = 0) -> Any:
    client = simulation.agent.command.test_client()
    response = await client.get(f"/v1/overview?since={since}")
    assert response.status_code == 200, await response.get_data()
    return await response.get_json()


async def test_an_agent_that_records_is_ready(
    autojump_clock: MockClock, simulation: Simulation
) -> None:
    """With all of its series, nothing missing, and its limits."""
    await trio.sleep(130)
    found = await _overview(simulation)
    assert found["ready"]
    assert found["reasons"] == []
    assert found["access"] == "command"
    totals = found["totals"]
    assert (totals["symbols"], totals["series"], totals["active"]) == (3, 9, 9)
    assert (totals["missing"], totals["incomplete"], totals["behind_seconds"]) == (0, 0, 0)
    [venue] = found["venues"]
    assert (venue["venue"], venue["is_default"], venue["series"]) == ("usdm", True, 9)
    assert venue["lag_seconds"] == {"1m": 0, "5m": 0, "1h": 0}
    assert "others" not in venue["limits"]
    assert venue["limits"]["rest"]["limit"] > 0
    assert found["storage"]["takes_rows"]


async def test_an_outage_is_seen_and_heals(autojump_clock: MockClock) -> None:
    """As a loss with its end, as figures over time, in the log, and in the worst series."""
    async with open_simulation(
        symbols=["BTCUSDT", "ETHUSDT"], intervals=[Interval.M1]
    ) as simulation:
        await trio.sleep(70)
        before = await _overview(simulation)
        assert before["losses"] == []
        with simulation.exchange.offline():
            await trio.sleep(125)
            during = await _overview(simulation, before["next"])
            assert not during["ready"]
            assert [each["symbol"] for each in during["behind"]] == ["BTCUSDT", "ETHUSDT"]
            assert during["behind"][0]["missing"]["candles"] == 2
            losses = {each["symbol"]: each for each in during["losses"]}
            assert losses.keys() == {"BTCUSDT", "ETHUSDT"}
            lost = losses["BTCUSDT"]
            assert (lost["from"], lost["candles"]) == ("2026-02-01T00:01:00+00:00", 2)
            assert lost["how"] == "its closing event did not come in time"
            assert lost["healed"] is None
            assert {each["event"] for each in during["events"]} >= {"feed_lost", "candles_missed"}
            assert during["points"][-1]["missing"] == 4
            assert during["points"][-1]["received_per_second"] == 0
            assert during["points"][-1]["behind_seconds"] > 60
        await trio.sleep(120)
        after = await _overview(simulation, during["next"])
        [healed] = [
            each
            for each in after["losses"]
            if each["symbol"] == "BTCUSDT" and each["from"] == lost["from"]
        ]
        assert healed["healed"] > healed["found"]
        assert healed["number"] > lost["number"]
        assert after["points"][-1]["missing"] == 0
        assert (await _overview(simulation, after["next"]))["losses"] == []
        everything = await _overview(simulation)
        spans = [(each["symbol"], each["from"]) for each in everything["losses"]]
        assert len(spans) == len({*spans}), "a loss is told once, as it is now"
        assert all(each["healed"] for each in everything["losses"])
        assert everything["started"] == before["started"]
        assert len(everything["points"]) > len(after["points"]) > 20
        numbers = [each["number"] for each in everything["points"]]
        assert numbers == sorted({*numbers})
        assert everything == await _overview(simulation, everything["next"] + 1_000)


def test_what_came_after_the_state_waits_for_the_next() -> None:
    """So nothing is told twice: the next request asks from the state's number on."""
    kept = [LoggedEvent(number, "", "info", "e", "") for number in (1, 2, 3)]
    assert [each.number for each in after(1, 2, kept)] == [2]
    assert [each.number for each in after(9, 2, kept)] == [1, 2]


async def test_delays_are_counted_by_stage(
    autojump_clock: MockClock, simulation: Simulation
) -> None:
    """A closing event comes within a moment, and the database has its row a second later."""
    await _overview(simulation)
    await trio.sleep(5 * 60 + 30)
    found = await _overview(simulation)
    by_stage = {each["stage"]: each for each in found["delays"] if each["interval"] == "1m"}
    assert by_stage.keys() == {"received", "stored", "readable"}
    for stage, most_s in (("received", 0.5), ("readable", 0.5), ("stored", 2)):
        delays = by_stage[stage]
        assert len(delays["counts"]) == len(delays["bounds_seconds"]) + 1
        assert sum(delays["counts"]) == 3 * 5, stage
        assert 0 < delays["p50_seconds"] <= delays["p99_seconds"] < most_s, stage
    at_close = [each for each in found["points"] if each["received_p99_seconds"] is not None]
    assert len(at_close) == 5
    assert at_close[0]["readable_p99_seconds"] < 0.5


async def test_figures_are_kept_for_half_an_hour(
    autojump_clock: MockClock, simulation: Simulation
) -> None:
    """One a minute as long as nobody looks, then one each five seconds."""
    await trio.sleep(3_600 + 1)
    assert len((await _overview(simulation))["points"]) == 31
    await trio.sleep(60)
    assert len((await _overview(simulation))["points"]) in {41, 42}
    await trio.sleep(1_800)
    assert len((await _overview(simulation))["points"]) in {360, 361}
    await trio.sleep(2 * 3_600)
    assert len((await _overview(simulation))["points"]) in {30, 31}


async def test_a_second_has_one_state_for_all_who_ask(
    autojump_clock: MockClock, simulation: Simulation
) -> None:
    """They get the same, whoever comes first; a second later it is another."""
    await trio.sleep(70)
    first = await _overview(simulation)
    await trio.sleep(0.5)
    assert await _overview(simulation) == first
    await trio.sleep(0.4)
    assert (await _overview(simulation))["at"] > first["at"]


async def test_what_a_reader_may_do_is_said(autojump_clock: MockClock) -> None:
    """By its token; the page hides what it must not do."""
    token, reading = "0123456789abcdef-commands", "0123456789abcdef-reads"
    async with open_simulation(token=token, read_token=reading) as simulation:
        client = simulation.agent.command.test_client()
        for sent, access in ((token, "command"), (reading, "read")):
            headers = {"Authorization": f"Bearer {sent}"}
            found = await (await client.get("/v1/overview", headers=headers)).get_json()
            assert (found["access"], found["has_token"]) == (access, True)


async def test_ready_overviews_pass_the_app(
    autojump_clock: MockClock, simulation: Simulation
) -> None:
    """What it would refuse, or has to make first, is left to it."""
    agent = simulation.agent
    source = OverviewSource(
        venues=agent.venues,
        writer=agent.writer,
        jobs=agent.jobs,
        timings=Timings(),
        guard=Guard(is_local=True),
        journal=Journal(
            venues=agent.venues, writer=agent.writer, timings=Timings(), lines=RecentLines()
        ),
    )
    at_once = OverviewAtOnce(source)

    def asked(target: str, host: str = "localhost:9999") -> ReadyAnswer | None:
        return at_once(h11.Request(method="GET", target=target, headers=[("Host", host)]))

    assert asked("/v1/overview") is None
    body = await source.answer(7, "command")
    ready = asked("/v1/overview?since=7")
    assert ready is not None
    assert ready.body == body
    assert asked("/v1/overview") is not None
    for other in (
        "/v1/overview?since=x",
        "/v1/overview?sinc=7",
        "/v1/limits",
        "/v1/overview?since=",
        "/v1/overview?since=" + "9" * 5_000,
    ):
        assert asked(other) is None, other
    assert asked("/v1/overview", host="evil.example") is None
    await trio.sleep(1)
    assert asked("/v1/overview?since=7") is None
