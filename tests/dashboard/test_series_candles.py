"""What the page keeps of a series, against a plain model of it. Pure, in the browser."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from playwright.sync_api import Page

from klineagent.core.interval import MINUTE_MS
from tests.dashboard.watched import Visit

pytestmark = [pytest.mark.browser, pytest.mark.slow]

GRID = 12
STORED, MISSING, ABSENT = "stored", "missing", "absent"

States = list[str]
truths = st.lists(st.sampled_from([STORED, MISSING, ABSENT]), min_size=GRID, max_size=GRID)
answers = st.lists(
    st.tuples(truths, st.integers(0, GRID - 1), st.integers(1, GRID)), min_size=1, max_size=5
)

_MERGE = """async (answers) => {
  const { SeriesCandles } = await import("/dashboard/series_candles.js");
  const kept = new SeriesCandles("1m");
  for (const answer of answers) kept.merge(answer);
  return {
    places: kept.places().map(({ open, candle }) => [open / 60_000, candle !== null]),
    missing: kept.missing.reduce((sum, span) => sum + span.candles, 0),
    absent: kept.absent.reduce((sum, span) => sum + span.candles, 0),
  };
}"""


@pytest.fixture
def module(visit: Visit) -> Page:
    """A page from which modules can be imported."""
    window = visit("/dashboard/element.js")
    window.claim("favicon.ico")
    return window.page


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(told=answers)
def test_the_newest_answer_is_true_of_its_range(
    module: Page, told: list[tuple[States, int, int]]
) -> None:
    """Each open time is there once: stored, missing, absent, or a hole between what was told."""
    model: dict[int, str] = {}
    sent = []
    for number, (truth, first, length) in enumerate(told):
        span = range(first, min(GRID, first + length))
        # A stored candle stays stored.
        now = {at: STORED if model.get(at) == STORED else truth[at] for at in span}
        model |= now
        sent.append(_answer(now, number))
    found = module.evaluate(_MERGE, sent)
    places = [[at, model.get(at) == STORED] for at in range(min(model), max(model) + 1)]
    assert found["places"] == places
    assert found["missing"] == list(model.values()).count(MISSING)
    assert found["absent"] == list(model.values()).count(ABSENT)


def _answer(states: dict[int, str], version: int) -> dict[str, Any]:
    """What `/v1/tail` says of a range."""
    return {
        "candles": [
            {"open_time": _time(at), "open": 1.0, "version": version}
            for at, state in states.items()
            if state == STORED
        ],
        **{
            state: [
                {"from": _time(at), "to": _time(at), "candles": 1}
                for at, each in states.items()
                if each == state
            ]
            for state in (MISSING, ABSENT)
        },
    }


def _time(at: int) -> str:
    return datetime.fromtimestamp(at * MINUTE_MS / 1_000, UTC).isoformat()
