"""The arithmetic of figures."""

from __future__ import annotations

import json

from klineagent.bench.figures import AgentFigures, Spread


def some_figures(messages: int = 2_000_000, inserts: int = 4) -> AgentFigures:
    """Figures of a window of ten seconds."""
    return AgentFigures(
        seconds=10.0,
        streams=9_000,
        messages=messages,
        cpu_s=4.0,
        rss=1,
        peak_rss=2,
        inserts=inserts,
        rows=10_000,
        closed=0,
        found=0,
        close_to_stored_ms=None,
        lag_ms=None,
        newest_age_ms=None,
        insert_age_ms=None,
        bad_frames=0,
        healed=0,
        missing=0,
        warnings={},
    )


def test_percentiles_are_values_that_were_seen() -> None:
    """The 50th and 99th of a hundred values; the only one of one; None without values."""
    assert Spread.of([float(each) for each in range(100, 0, -1)]) == Spread(100, 50.0, 99.0, 100.0)
    assert Spread.of([7.0]) == Spread(1, 7.0, 7.0, 7.0)
    assert Spread.of([]) is None


def test_what_follows_from_the_figures() -> None:
    """CPU a message in microseconds is CPU seconds a million messages."""
    figures = some_figures()
    assert figures.cpu_us_per_message == 2.0
    assert figures.messages_per_s == 200_000
    assert figures.core_percent == 40
    assert figures.rows_per_insert == 2_500
    assert figures.rows_per_s == 1_000


def test_nothing_is_divided_by_nothing() -> None:
    """Where no message came or no row was stored there is no figure."""
    figures = some_figures(messages=0, inserts=0)
    assert figures.cpu_us_per_message is None
    assert figures.rows_per_insert is None


def test_json_holds_both_what_was_seen_and_what_follows() -> None:
    """Measured and derived figures are in one object."""
    result = json.loads(json.dumps(some_figures().as_json()))
    assert result["messages"] == 2_000_000
    assert result["cpu_us_per_message"] == 2.0
    assert result["twin_core_percent"] is None
