"""Jobs of a whole agent: they import beside recording, survive restarts, and wait for others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import trio
from trio.testing import MockClock

from klineagent.core.interval import DAY_MS, MINUTE_MS, Interval
from klineagent.jobs.imports import LONGEST_RETRY_S
from klineagent.storage.memory.disk import MemoryDisk
from klineagent.storage.memory.store import MemoryStore
from klineagent.testing.simulation import Simulation, open_simulation
from tests.history.twin import BEGIN_MS
from tests.twin.archive.samples import NOON_MS, PlainMarket

HOURS = {"kind": "import", "symbols": ["BTCUSDT"], "intervals": ["1h"]}


@asynccontextmanager
async def open_agent_with_past(**settings: Any) -> AsyncIterator[Simulation]:
    """An agent that records minutes of a market with forty days behind it."""
    market = PlainMarket(symbols=3, seed=7, start_ms=NOON_MS, history_ms=40 * DAY_MS)
    async with open_simulation(
        **{
            "symbols": ["BTCUSDT"],
            "intervals": [Interval.M1],
            "market": market,
            "history": 10,
            **settings,
        }
    ) as simulation:
        await trio.sleep(10)
        yield simulation


async def ask(simulation: Simulation, method: str, path: str, body: object = None) -> Any:
    """The JSON of an answer, with its status."""
    client = simulation.agent.command.test_client()
    given: Any = {} if body is None else {"json": body}
    response = await client.open(path, method=method, **given)
    return response.status_code, await response.get_json()


async def ended(simulation: Simulation, job_id: str, within_s: float = 600) -> Any:
    """The job once it has ended."""
    with trio.fail_after(within_s):
        while True:
            job = await _job(simulation, job_id)
            if job["ended"] is not None:
                return job
            await trio.sleep(0.5)


async def begun(simulation: Simulation, job_id: str) -> Any:
    """The job once it has taken a file."""
    with trio.fail_after(60):
        while True:
            job = await _job(simulation, job_id)
            if job["progress"]["files"]:
                return job
            await trio.sleep(0.02)


async def _job(simulation: Simulation, job_id: str) -> Any:
    _, job = await ask(simulation, "GET", f"/v1/jobs/{job_id}")
    return job


def hours(store: MemoryStore) -> list[int]:
    """The open times of closed candles of 1h."""
    rows = store.klines.values()
    return sorted(each.open_time for each in rows if each.interval == "1h" and each.is_closed)


async def test_a_job_imports_beside_recording(autojump_clock: MockClock) -> None:
    """All hours are stored by files and the exchange, and minutes go on being recorded."""
    async with open_agent_with_past() as simulation:
        status, accepted = await ask(simulation, "POST", "/v1/jobs", HOURS)
        assert (status, accepted["job"]["state"], accepted["saved"]) == (202, "queued", False)
        job = await ended(simulation, accepted["job"]["id"])
        assert job["state"] == "done"
        await trio.sleep(120)
        _, overview = await ask(simulation, "GET", "/v1/overview")
    store = simulation.store
    found = hours(store)
    assert found == [*range(BEGIN_MS, NOON_MS, 60 * MINUTE_MS)]
    progress = job["progress"]
    # The market began within December, so its file and that of its first day are short.
    assert progress["files"] == progress["files_total"] == 3
    assert (progress["imported"], progress["short"], progress["eta_seconds"]) == (1, 2, None)
    assert progress["candles"] + progress["exchange_candles"] == len(found)
    assert [each["id"] for each in overview["jobs"]] == [job["id"]]
    minutes = {each.open_time for each in store.klines.values() if each.interval == "1m"}
    assert max(minutes) >= NOON_MS + MINUTE_MS
    assert simulation.agent.venues.main.registry.missing() == 0


async def test_imported_days_are_known_at_once_and_after_a_restart(
    autojump_clock: MockClock,
) -> None:
    """Though they are older than what the agent tracks; a candle of theirs is explained as stored.

    The market began at a noon, so no file has all of that day. The next agent starts without the
    database, and knows them once that is there.
    """
    store, hourly = MemoryStore(), [Interval.H1]
    asked = "/v1/coverage/days?from=2025-12-22&to=2026-02-02"
    why = "/v1/why?symbol=BTCUSDT&interval=1h&open_time=2026-01-10T03:00:00Z"

    async def days() -> str:
        [series] = (await ask(simulation, "GET", asked))[1]["series"]
        return str(series["days"])

    async with open_agent_with_past(store=store, intervals=hourly) as simulation:
        assert await days() == "-" * 41 + "c"
        assert (await ask(simulation, "GET", why))[1]["state"] == "not_covered"
        _, accepted = await ask(simulation, "POST", "/v1/jobs", HOURS)
        await ended(simulation, accepted["job"]["id"])
        whole = await days()
        assert whole == "--" + "i" * 39 + "c"
    async with AsyncExitStack() as away:
        away.enter_context(store.offline())
        async with open_agent_with_past(store=store, intervals=hourly) as simulation:
            assert "i" not in await days()
            await away.aclose()
            await trio.sleep(2 * LONGEST_RETRY_S)
            assert (await days())[:-1] == whole[:-1]
            _, told = await ask(simulation, "GET", why)
            assert (told["state"], told["store"]["row"]["source"]) == ("stored", "archive")
            assert "The series is tracked from" in told["explanation"]


async def test_a_job_goes_on_after_a_restart(autojump_clock: MockClock) -> None:
    """What was under way goes on, what was taken is not taken again, and what was paused rests."""
    store, state = MemoryStore(), MemoryDisk()
    many = {"kind": "import", "match": {"name": "BTC*"}, "intervals": ["1h", "2h", "4h"]}
    parts: dict[str, Any] = {"store": store, "state": state}
    async with open_agent_with_past(**parts) as simulation:
        _, accepted = await ask(simulation, "POST", "/v1/jobs", many)
        assert accepted["saved"]
        job_id = accepted["job"]["id"]
        _, paused = await ask(simulation, "POST", "/v1/jobs", {**HOURS, "rest": False})
        status, paused = await ask(simulation, "POST", f"/v1/jobs/{paused['job']['id']}/pause")
        assert (status, paused["state"]) == (200, "paused")
        job = await begun(simulation, job_id)
        assert job["state"] in {"running", "waiting"}
    taken = job["progress"]["files"]
    assert taken < job["progress"]["files_total"]
    async with open_agent_with_past(**parts, symbols=["ETHUSDT"]) as simulation:
        job = await ended(simulation, job_id)
        assert job["state"] == "done"
        assert (await _job(simulation, paused["id"]))["state"] == "paused"
    by_series: dict[tuple[str, str], list[int]] = {}
    for kline in store.klines.values():
        by_series.setdefault((kline.symbol, kline.interval), []).append(kline.open_time)
    for interval in (Interval.H1, Interval.H2, Interval.H4):
        found = sorted(by_series["BTCUSDT", interval.value])
        assert found == [*range(BEGIN_MS, NOON_MS, interval.next_open(0))], interval


async def test_a_paused_job_stores_nothing(autojump_clock: MockClock) -> None:
    """It rests until it is resumed, and then takes the rest; others have their turn meanwhile."""
    async with open_agent_with_past() as simulation:
        several = {**HOURS, "intervals": ["15m", "30m", "1h"]}
        _, accepted = await ask(simulation, "POST", "/v1/jobs", several)
        path = f"/v1/jobs/{accepted['job']['id']}"
        await begun(simulation, path[9:])
        status, paused = await ask(simulation, "POST", f"{path}/pause")
        assert (status, paused["state"]) == (200, "paused")
        _, next_one = await ask(simulation, "POST", "/v1/jobs", {**HOURS, "intervals": ["1d"]})
        await ended(simulation, next_one["job"]["id"])
        before = len(hours(simulation.store))
        await trio.sleep(60)
        assert len(hours(simulation.store)) == before
        status, _ = await ask(simulation, "POST", f"{path}/resume")
        assert status == 200
        assert (await ended(simulation, path[9:]))["state"] == "done"
        assert hours(simulation.store) == [*range(BEGIN_MS, NOON_MS, 60 * MINUTE_MS)]


async def test_a_cancelled_job_is_over(autojump_clock: MockClock) -> None:
    """What is stored stays; the same request begins anew."""
    async with open_agent_with_past() as simulation:
        _, accepted = await ask(simulation, "POST", "/v1/jobs", HOURS)
        path = f"/v1/jobs/{accepted['job']['id']}"
        status, job = await ask(simulation, "DELETE", path)
        assert (status, job["state"]) == (200, "cancelled")
        status, refusal = await ask(simulation, "POST", f"{path}/pause")
        assert (status, refusal["error"]) == (409, f"job {path[9:]} has ended: cancelled")
        _, again = await ask(simulation, "POST", "/v1/jobs", {**HOURS, "symbols": [" btcusdt"]})
        assert again["job"]["id"] == path[9:]
        assert (await ended(simulation, path[9:]))["state"] == "done"


async def test_a_job_waits_for_the_store(autojump_clock: MockClock) -> None:
    """It says why, and goes on by itself once the store is back."""
    async with open_agent_with_past() as simulation:
        with simulation.store.offline():
            await trio.sleep(70)
            _, accepted = await ask(simulation, "POST", "/v1/jobs", HOURS)
            await trio.sleep(5)
            job = await _job(simulation, accepted["job"]["id"])
            assert job["state"] == "waiting"
            assert job["reason"]
        assert (await ended(simulation, job["id"], 2 * LONGEST_RETRY_S + 60))["state"] == "done"


async def test_a_job_that_cannot_be_done_says_why(autojump_clock: MockClock) -> None:
    """A symbol that nobody knows ends the job, and nothing else."""
    async with open_agent_with_past() as simulation:
        _, accepted = await ask(simulation, "POST", "/v1/jobs", {**HOURS, "symbols": ["NONEUSDT"]})
        job = await ended(simulation, accepted["job"]["id"])
        assert job["state"] == "failed"
        assert "NONEUSDT" in job["reason"]
        _, accepted = await ask(simulation, "POST", "/v1/jobs", HOURS)
        assert (await ended(simulation, accepted["job"]["id"]))["state"] == "done"


async def test_requests_that_are_wrong_are_refused(autojump_clock: MockClock) -> None:
    """The field is named; one job runs, sixteen wait, and no more are taken."""
    async with open_agent_with_past() as simulation:
        for wrong, field in (
            ({"intervals": ["7m"]}, "interval: '7m'"),
            ({"intervals": []}, "intervals:"),
            ({"symbols": []}, "symbols:"),
            ({"symbols": ["BTC/USDT"]}, "symbols[0]:"),
            ({"symbols": ["moon:BTCUSDT"]}, "symbols[0]:"),
            ({"match": {"name": "*"}}, "match:"),
            ({"match": {"quote": "USDT"}}, "$.match"),
            ({"from": "yesterday"}, "from:"),
            ({"from": "2026-01-02", "to": "2026-01-01"}, "from:"),
            ({"kind": "export"}, "$.kind"),
            ({"fast": True}, "fast"),
        ):
            status, refusal = await ask(simulation, "POST", "/v1/jobs", {**HOURS, **wrong})
            assert status == 400
            assert field in refusal["error"], wrong
        for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/pause"), ("POST", "/resume")):
            status, _ = await ask(simulation, method, f"/v1/jobs/unknown{path}")
            assert status == 404
        for day in range(1, 20):
            body = {**HOURS, "to": f"2026-01-{day + 1:02}"}
            status, _ = await ask(simulation, "POST", "/v1/jobs", body)
            assert status == (202 if day <= 17 else 409)
