"""The scenario `dashboard`: how soon a page shows, and what open pages cost the agent."""

from __future__ import annotations

import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from statistics import median

import msgspec
from attrs import frozen

from klineagent.bench.child import Child, ChildEvent, open_child
from klineagent.bench.dashboard.visitor import Looks, Visit
from klineagent.bench.figures import AgentFigures, Spread
from klineagent.bench.measurement import READY_WITHIN_S, figures_of, open_scene
from klineagent.bench.outcome import Bar, Outcome, percent_of_sent
from klineagent.bench.workload import FRESH, Workload
from klineagent.core.errors import ConfigError

DASHBOARD = Workload(symbols=600, rate="36000", seconds=60, tls=True, store=FRESH)
PROGRAMS = "chromium", "chromium-browser", "google-chrome"
LOOKS = 5
# In each of two windows of a minute only 1m candles close, none of 3 or 5 minutes.
_START = "2027-02-02T00:00:40"
_DONE_WITHIN_S = 180
# A tenth of the time for which rows are batched anyway.
_UNCHANGED_MS = 100
_KILO = 1_000


@frozen(kw_only=True)
class Visitors:
    """The clients of a dashboard."""

    tabs: int = 10
    browser: str | None = None
    """Path of Chromium; None for the one that is installed."""

    def program(self) -> str:
        """Find Chromium.

        Raises:
            ConfigError: there is none.
        """
        names = PROGRAMS if self.browser is None else (self.browser,)
        for found in map(shutil.which, names):
            if found is not None:
                return found
        raise ConfigError(
            f"there is no {' or '.join(names)}: install Chromium (Debian: apt-get install"
            " chromium), or say where it is with --browser"
        )


@frozen(kw_only=True)
class Visited:
    """What the visitors report."""

    looks: Looks
    requests_per_s: float
    """What all tabs together ask for."""


async def visit(load: Workload, visitors: Visitors) -> Outcome:
    """Record while the dashboard is open.

    A page is looked at a few times; then come two windows, the second of them with open tabs.
    """
    program = visitors.program()
    async with open_scene(load, "--start", _START) as scene:
        plan = Visit(url=f"http://{scene.command}/", program=program, looks=LOOKS, tabs=0)
        quiet = await figures_of(scene)
        async with _open_browser(plan) as browser:
            looked = await _after(browser, "look", "looked")
            await _after(browser, "close", "closed")
        plan = msgspec.structs.replace(plan, tabs=visitors.tabs, is_nice=True)
        async with _open_browser(plan) as browser:
            await _after(browser, "open", "opened")
            beside = await figures_of(scene)
            counted = await _after(browser, "count", "counted")
            await _after(browser, "close", "closed")
    shown = Visited(looks=msgspec.convert(looked["looks"], Looks), requests_per_s=counted["per_s"])
    return Outcome(
        runs={"left alone": quiet, f"{visitors.tabs} tabs": beside},
        bars=bars_of(load, visitors, quiet, beside, shown),
    )


@asynccontextmanager
async def _open_browser(plan: Visit) -> AsyncIterator[Child]:
    command = [
        *(sys.executable, "-m", "klineagent.bench.dashboard.visitor"),
        msgspec.json.encode(plan).decode(),
    ]
    async with open_child("the browser", command, reports_on="stdout") as browser:
        await browser.event_within(READY_WITHIN_S, "ready")
        yield browser


async def _after(browser: Child, order: str, event: str) -> ChildEvent:
    await browser.go(order)
    return await browser.event_within(_DONE_WITHIN_S, event)


def bars_of(
    load: Workload, visitors: Visitors, quiet: AgentFigures, beside: AgentFigures, shown: Visited
) -> list[Bar]:
    """The bars for the page, and for recording beside open tabs. Pure.

    Of the looks the median counts: on a busy machine one may wait for a core.
    """
    seen, more = shown.looks, beside.core_percent - quiet.core_percent
    first = {
        part: median(getattr(each, part) for each in seen.looks)
        for part in ("paint", "head", "coverage", "candles")
    }
    return [
        Bar(what="first paint, ms", seen=first["paint"], most=1_000),
        Bar(what="of a page of one word", seen=seen.nothing_ms),
        Bar(what="the agent's figures, ms", seen=first["head"]),
        Bar(what="heat map of 30 days, ms", seen=first["coverage"], most=2_000),
        Bar(what="chart of candles, ms", seen=first["candles"]),
        Bar(what="script and style, KB", seen=seen.weight / _KILO, most=250),
        Bar(
            what=f"requests a second of {visitors.tabs} tabs",
            seen=shown.requests_per_s,
            # A hidden tab asks for nothing, and costs nothing.
            least=visitors.tabs,
        ),
        Bar(what=f"{visitors.tabs} tabs, % of a core more", seen=more, most=5),
        Bar(what="the twin, for the same work in both", seen=_twins_more(quiet, beside)),
        Bar(what="% of what is sent", seen=percent_of_sent(load, beside), least=98),
        Bar(
            what="age of the newest row p99, ms more",
            seen=_more(quiet.insert_age_ms, beside.insert_age_ms),
            most=_UNCHANGED_MS,
        ),
        Bar(what="candles closed and not found", seen=beside.closed - beside.found, most=0),
        Bar(what="candles missing in the end", seen=beside.missing, most=0),
    ]


def _twins_more(quiet: AgentFigures, beside: AgentFigures) -> float | None:
    """What a machine that is slower in the second window makes of the same work."""
    before, after = quiet.twin_core_percent, beside.twin_core_percent
    return None if before is None or after is None else after - before


def _more(before: Spread | None, beside: Spread | None) -> float | None:
    return beside.p99 - before.p99 if before and beside else None
