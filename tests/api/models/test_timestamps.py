from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klineagent.api.models.timestamps import read_moment, utc
from klineagent.core.errors import InvalidRequest

FEBRUARY_MS = 1_769_904_000_000


@pytest.mark.parametrize(
    "text",
    [
        "1769904000000",
        " 2026-02-01 ",
        "2026-02-01T00:00:00Z",
        "2026-02-01T00:00:00",
        "2026-02-01 00:00",
        "2026-02-01T01:00:00+01:00",
        "2026-02-01T01:00:00 01:00",
    ],
)
def test_a_moment_may_be_written_in_many_ways(text: str) -> None:
    """Milliseconds or ISO 8601, also with a `+` that was not escaped."""
    assert read_moment(text, field="open_time") == FEBRUARY_MS


@pytest.mark.parametrize(
    "text",
    ["", "soon", "-1", "1969-12-31", "9" * 30, "9999-12-31T23:59:59-12:00", "٣", "2026-13-01"],
)
def test_what_is_no_moment_is_refused(text: str) -> None:
    """The error names the field."""
    with pytest.raises(InvalidRequest, match="open_time: "):
        read_moment(text, field="open_time")


@given(st.integers(0, 250_000_000_000_000))
def test_what_is_told_can_be_asked_for(time_ms: int) -> None:
    """To the millisecond."""
    assert read_moment(utc(time_ms), field="open_time") == time_ms
