"""Bars and outcomes of scenarios."""

from __future__ import annotations

import pytest

from klineagent.bench.outcome import Bar, Outcome, percent_of_sent
from klineagent.bench.workload import MAX, Workload
from tests.bench.test_figures import some_figures


@pytest.mark.parametrize(
    ("seen", "is_met"), [(None, False), (0.9, False), (1, True), (2, True), (2.1, False)]
)
def test_a_bar_is_met_within_its_bounds(seen: float | None, is_met: bool) -> None:
    """The bounds are inclusive; a value that was not measured misses."""
    assert Bar(what="it", seen=seen, least=1, most=2).is_met is is_met


def test_a_figure_without_bounds_is_always_fine() -> None:
    """It is only shown."""
    assert Bar(what="it", seen=7).is_met
    assert Outcome(runs={}, bars=[Bar(what="it", seen=7)]).as_json()["bars"][0]["is_met"]


def test_received_frames_are_a_share_of_sent_ones() -> None:
    """Only a fixed rate says how many were sent."""
    figures = some_figures(messages=1_980_000)
    load = Workload(symbols=1, rate="200000", seconds=10)
    assert percent_of_sent(load, figures) == pytest.approx(99)
    assert percent_of_sent(Workload(symbols=1, rate=MAX, seconds=10), figures) == 100
