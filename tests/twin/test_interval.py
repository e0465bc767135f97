"""The twin's grid and the agent's are computed independently and must agree."""

from __future__ import annotations

import ast
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klineagent import twin
from klineagent.core.interval import Interval
from klineagent.twin.interval import TwinInterval

# From 1970 to 2149.
times = st.integers(0, 5_650_000_000_000)


@given(st.sampled_from(TwinInterval), times)
def test_both_grids_agree(interval: TwinInterval, time_ms: int) -> None:
    """On a candle's open time, the next one's, and the close time."""
    agents = Interval(interval.value)
    open_ms = interval.open_at(time_ms)
    assert open_ms == agents.open_at(time_ms)
    assert interval.next_open(open_ms) == agents.next_open(open_ms)
    assert interval.close_of(open_ms) == agents.close_of(open_ms)


def test_both_know_the_same_intervals() -> None:
    """By their names."""
    assert {each.value for each in Interval} == {each.value for each in TwinInterval}


@pytest.mark.parametrize(
    ("name", "opens"),
    [
        ("1s", "2026-03-04T05:06"),
        ("1m", "2026-03-04T05:06"),
        ("8h", "2026-03-04T00:00"),
        ("12h", "2026-03-04T00:00"),
        ("3d", "2026-03-02T00:00"),
        ("1w", "2026-03-02T00:00"),
        ("1M", "2026-03-01T00:00"),
    ],
)
def test_a_grid_is_what_is_documented(name: str, opens: str) -> None:
    """The candle of a Wednesday morning."""
    time = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
    open_ms = TwinInterval(name).open_at(int(time.timestamp() * 1_000))
    assert f"{datetime.fromtimestamp(open_ms / 1_000, UTC):%Y-%m-%dT%H:%M}" == opens


def test_the_twin_imports_nothing_it_is_to_test() -> None:
    """Neither grid nor tables: of the package it imports itself and plain helpers only."""
    helpers = {"klineagent.core.errors", "klineagent.core.suggestions"}
    for path in Path(twin.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("klineagent"):
                assert node.module in helpers or str(node.module).startswith("klineagent.twin")
