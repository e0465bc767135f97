"""Marked ranges behave like a dictionary of single moments."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from klineagent.series.spans import Span, Spans

ranges = st.tuples(st.integers(0, 20), st.integers(1, 8), st.sampled_from(["a", "b", None]))


@given(st.lists(ranges))
def test_marks_are_those_of_every_moment(steps: list[tuple[int, int, str | None]]) -> None:
    """However ranges are marked and cleared, each moment has its last mark."""
    spans: Spans[str] = Spans()
    truth: dict[int, str] = {}
    for first, length, mark in steps:
        moments = range(first, first + length)
        if mark is None:
            taken = spans.clear(first, first + length)
            cleared = {at: span.mark for span in taken for at in range(span.first_ms, span.end_ms)}
            assert cleared == {at: truth.pop(at) for at in moments if at in truth}
        else:
            spans.mark(first, first + length, mark)
            truth |= dict.fromkeys(moments, mark)
    assert {at: span.mark for span in spans for at in range(span.first_ms, span.end_ms)} == truth
    assert all((at in spans) == (at in truth) for at in range(-1, 30))
    assert {at: span.mark for at in range(-1, 30) if (span := spans.at(at))} == truth
    assert list(reversed(spans)) == list(spans)[::-1]


@given(st.lists(ranges))
def test_adjacent_ranges_with_equal_marks_are_merged(
    steps: list[tuple[int, int, str | None]],
) -> None:
    """So a gap takes the same room whatever its length."""
    spans: Spans[str] = Spans()
    for first, length, mark in steps:
        if mark is not None:
            spans.mark(first, first + length, mark)
    for before, after in pairwise(spans):
        assert before.end_ms < after.first_ms or before.mark != after.mark


def test_clearing_the_middle_leaves_both_ends() -> None:
    """Both keep their mark."""
    spans: Spans[str] = Spans()
    spans.mark(0, 10, "a")
    assert spans.clear(4, 6) == [Span(4, 6, "a")]
    assert list(spans) == [Span(0, 4, "a"), Span(6, 10, "a")]
