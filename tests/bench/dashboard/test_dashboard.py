"""The bars of the dashboard."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from klineagent.bench.dashboard.dashboard import Visited, Visitors, bars_of
from klineagent.bench.dashboard.visitor import Look, Looks
from klineagent.bench.figures import AgentFigures, Spread
from klineagent.core.errors import ConfigError
from tests.bench.operation.test_operation import LOAD, QUIET

QUICK = Look(paint=200, head=400, coverage=900, candles=700)
SLOW = Look(paint=3_000, head=3_000, coverage=9_000, candles=9_000)
LOOKS = Looks(looks=[QUICK, SLOW, QUICK], nothing_ms=50, weight=120_000)
RECORDED = replace(QUIET, missing=0, twin_cpu_s=2.0)


def missed(beside: AgentFigures, looks: Looks, requests_per_s: float = 30) -> list[str]:
    """The bars that are missed."""
    shown = Visited(looks=looks, requests_per_s=requests_per_s)
    bars = bars_of(LOAD, Visitors(), RECORDED, beside, shown)
    return [bar.what for bar in bars if bar.seen is None or not bar.is_met]


def test_the_median_of_looks_counts() -> None:
    """One that waited for a core says nothing of the page; two of three do."""
    assert missed(RECORDED, LOOKS) == []
    slow = Looks(looks=[QUICK, SLOW, SLOW], nothing_ms=50, weight=250_001)
    assert missed(RECORDED, slow) == [
        "first paint, ms",
        "heat map of 30 days, ms",
        "script and style, KB",
    ]


def test_tabs_that_cost_too_much_miss_a_bar() -> None:
    """So do those that ask for nothing, as hidden ones do, and rows that get older."""
    beside = replace(
        RECORDED,
        cpu_s=RECORDED.cpu_s + 0.06 * RECORDED.seconds,
        insert_age_ms=Spread(20, 60.0, 161.0, 161.0),
        missing=1,
    )
    assert missed(beside, LOOKS, 9) == [
        "requests a second of 10 tabs",
        "10 tabs, % of a core more",
        "age of the newest row p99, ms more",
        "candles missing in the end",
    ]


def test_without_chromium_the_reason_says_what_to_install() -> None:
    """The option is named, too."""
    with pytest.raises(ConfigError, match=r"no /nowhere/chromium: .*apt-get.*--browser"):
        Visitors(browser="/nowhere/chromium").program()
