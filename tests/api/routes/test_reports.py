"""Invalid queries, and pages of many series."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import pytest
import trio
from trio.testing import MockClock

from klineagent.core.interval import Interval
from klineagent.series.registry import Registry
from klineagent.storage.memory.disk import MemoryDisk
from klineagent.testing.simulation import Simulation, open_simulation

WHY = {"symbol": "BTCUSDT", "interval": "1m", "open_time": "2026-02-01T00:00:00Z"}


async def _get(simulation: Simulation, path: str, **query: object) -> tuple[int, Any]:
    client = simulation.agent.command.test_client()
    response = await client.get(f"{path}?{urlencode(query)}")
    return response.status_code, await response.get_json()


@pytest.mark.parametrize(
    ("path", "query", "named"),
    [
        ("/v1/coverage", {"limit": 0}, "limit"),
        ("/v1/coverage", {"limit": 1001}, "limit"),
        ("/v1/coverage", {"limit": "many"}, "limit"),
        ("/v1/coverage", {"interval": "7m"}, "interval"),
        ("/v1/coverage", {"after": "BTCUSDT"}, "after"),
        ("/v1/coverage", {"after": "BTCUSDT:7m"}, "after"),
        ("/v1/coverage", {"offset": 3}, "offset"),
        ("/v1/why", {}, "symbol"),
        ("/v1/why", {**WHY, "symbol": " "}, "symbol"),
        ("/v1/why", {**WHY, "interval": "1s"}, "interval"),
        ("/v1/why", {**WHY, "open_time": "yesterday"}, "open_time"),
        ("/v1/why", {**WHY, "open_time": "2026-02-01T00:00:30Z"}, "opens at 2026-02-01T00:00:00"),
    ],
)
async def test_a_question_that_makes_no_sense_is_refused(
    autojump_clock: MockClock,
    simulation: Simulation,
    path: str,
    query: dict[str, object],
    named: str,
) -> None:
    """With what is wrong about it."""
    status, answer = await _get(simulation, path, **query)
    assert status == 400
    assert named in answer["error"]


async def _pages(simulation: Simulation, limit: int, **query: object) -> list[list[str]]:
    """The series on each page."""
    pages, after = [], ""
    while True:
        _, page = await _get(simulation, "/v1/coverage", limit=limit, after=after, **query)
        pages.append([f"{each['symbol']} {each['interval']}" for each in page["series"]])
        assert page["total"] == simulation.agent.registry.count()
        if (after := page["next"]) is None:
            return pages


async def test_pages_hold_every_series_once(
    autojump_clock: MockClock, simulation: Simulation
) -> None:
    """By symbol and length, whatever the size of a page, and of what was asked for only."""
    symbols, intervals = ("BTCUSDT", "ETHUSDT", "SOLUSDT"), ("1m", "5m", "1h")
    all_series = [f"{symbol} {interval}" for symbol in symbols for interval in intervals]
    for limit in (1, 2, 3, 4, 9, 10, 1000):
        pages = await _pages(simulation, limit)
        assert [each for page in pages for each in page] == all_series
        assert all(len(page) == limit for page in pages[:-1])
    assert await _pages(simulation, 100, symbol=" ethusdt ") == [all_series[3:6]]
    assert await _pages(simulation, 2, interval="5m") == [
        ["BTCUSDT 5m", "ETHUSDT 5m"],
        ["SOLUSDT 5m"],
    ]
    assert await _pages(simulation, 100, symbol="BTCUSDT", interval="1h") == [["BTCUSDT 1h"]]
    assert await _pages(simulation, 100, symbol="NOSUCH") == [[]]


async def test_a_series_that_is_removed_between_pages_skips_no_other(
    autojump_clock: MockClock, simulation: Simulation
) -> None:
    """Not even if the page before ended with it."""
    registry: Registry = simulation.agent.registry
    _, page = await _get(simulation, "/v1/coverage", limit=4)
    assert page["next"] == "ETHUSDT:1m"
    await registry.remove("BTCUSDT", Interval.M1)
    await registry.remove("ETHUSDT", Interval.M1)
    _, rest = await _get(simulation, "/v1/coverage", after=page["next"])
    assert len(rest["series"]) == 5
    assert (rest["series"][0]["symbol"], rest["series"][0]["interval"]) == ("ETHUSDT", "5m")


@pytest.mark.slow
async def test_long_accounts_are_told_in_part(autojump_clock: MockClock) -> None:
    """The newest fifty spans, and how many there are besides."""
    async with open_simulation(intervals=[Interval.M1], history=0) as simulation:
        await trio.sleep(200 * 60 + 30)
        ledger = simulation.agent.registry.subscriptions()[0].ledger
        with simulation.exchange.faults.hanging_rest():
            for number in range(60):
                ledger.reopen(Interval.M1.shifted(ledger.first_ms, 2 * number), now_ms=0)
            _, page = await _get(simulation, "/v1/coverage", limit=1)
            missing = page["series"][0]["missing"]
            assert (missing["candles"], len(missing["spans"])) == (60, 50)
            assert missing["more_spans"] == 10
            assert missing["spans"] == sorted(missing["spans"], key=lambda span: span["from"])


async def test_openmetrics_are_told_to_who_accepts_them(
    autojump_clock: MockClock, simulation: Simulation
) -> None:
    """The plain format to all others."""
    client = simulation.agent.status.test_client()
    accept = {"Accept": "application/openmetrics-text;version=1.0.0"}
    response = await client.get("/metrics", headers=accept)
    assert response.content_type.startswith("application/openmetrics-text")
    assert (await response.get_data(as_text=True)).endswith("# EOF\n")
    response = await client.get("/metrics")
    assert response.content_type.startswith("text/plain")


async def test_who_lives_says_so(autojump_clock: MockClock, simulation: Simulation) -> None:
    """Without a look at anything."""
    response = await simulation.agent.status.test_client().get("/live")
    assert (response.status_code, await response.get_json()) == (200, {"status": "ok"})


async def test_a_database_that_takes_no_rows_is_told_of(autojump_clock: MockClock) -> None:
    """Why it does not, and where the rows are meanwhile."""
    async with open_simulation(disk=MemoryDisk()) as simulation:
        await trio.sleep(120)
        _, sound = await _get(simulation, "/v1/storage")
        with simulation.store.offline():
            await trio.sleep(120)
            _, away = await _get(simulation, "/v1/storage")
        await trio.sleep(120)
        _, again = await _get(simulation, "/v1/storage")
    assert (sound["database"], sound["takes_rows"], sound["error"]) == ("memory:", True, None)
    assert sound["spool"]["rows"] == 0
    assert away["takes_rows"] is False
    assert away["error"]
    assert away["spool"]["rows"] > 0
    assert away["rows_stored"] <= sound["rows_stored"] + sound["rows_waiting"]
    assert again["takes_rows"] is True
    assert again["spool"]["rows"] == 0
    assert again["rows_stored"] > away["rows_stored"]
