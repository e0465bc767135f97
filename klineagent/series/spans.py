"""Marked ranges of time: sorted, disjoint, and merged where possible. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Any, Generic, NamedTuple, TypeVar

T = TypeVar("T")
# The list of all that have no ranges, as nearly all series: never changed.
_NONE: list[Any] = []


class Span(NamedTuple, Generic[T]):
    """A marked range [`first_ms`, `end_ms`)."""

    first_ms: int
    end_ms: int
    mark: T


class Spans(Generic[T]):
    """Holds marked ranges; adjacent ranges with equal marks are merged."""

    __slots__ = ("_firsts", "_spans")

    def __init__(self) -> None:
        self._spans: list[Span[T]] = _NONE
        self._firsts: list[int] = _NONE

    def __iter__(self) -> Iterator[Span[T]]:
        return iter(self._spans)

    def __len__(self) -> int:
        return len(self._spans)

    def __repr__(self) -> str:
        return f"<Spans {self._spans}>"

    def __reversed__(self) -> Iterator[Span[T]]:
        return reversed(self._spans)

    def __contains__(self, time_ms: int) -> bool:
        return self.at(time_ms) is not None

    def at(self, time_ms: int) -> Span[T] | None:
        """Return the range that holds `time_ms`; None if none does."""
        at = bisect_right(self._firsts, time_ms) - 1
        return self._spans[at] if at >= 0 and time_ms < self._spans[at].end_ms else None

    def within(self, first_ms: int, end_ms: int) -> list[Span[T]]:
        """Return the marked parts of [`first_ms`, `end_ms`)."""
        start = max(0, bisect_right(self._firsts, first_ms) - 1)
        inside = (
            Span(max(span.first_ms, first_ms), min(span.end_ms, end_ms), span.mark)
            for span in self._spans[start : bisect_left(self._firsts, end_ms)]
        )
        return [span for span in inside if span.first_ms < span.end_ms]

    def mark(self, first_ms: int, end_ms: int, mark: T) -> None:
        """Mark [`first_ms`, `end_ms`), replacing earlier marks."""
        self.clear(first_ms, end_ms)
        at = bisect_left(self._firsts, first_ms)
        before, after = self._spans[max(0, at - 1) : at], self._spans[at : at + 1]
        start, end = at, at
        if before and before[0].end_ms == first_ms and before[0].mark == mark:
            start, first_ms = at - 1, before[0].first_ms
        if after and after[0].first_ms == end_ms and after[0].mark == mark:
            end, end_ms = at + 1, after[0].end_ms
        self._replace(start, end, [Span(first_ms, end_ms, mark)])

    def clear(self, first_ms: int, end_ms: int) -> list[Span[T]]:
        """Unmark [`first_ms`, `end_ms`); return the parts that were marked."""
        start = max(0, bisect_right(self._firsts, first_ms) - 1)
        end = bisect_left(self._firsts, end_ms)
        taken: list[Span[T]] = []
        left: list[Span[T]] = []
        for span in self._spans[start:end]:
            inside = Span(max(span.first_ms, first_ms), min(span.end_ms, end_ms), span.mark)
            if inside.first_ms >= inside.end_ms:
                left.append(span)
                continue
            taken.append(inside)
            left += [
                Span(first, last, span.mark)
                for first, last in (
                    (span.first_ms, inside.first_ms),
                    (inside.end_ms, span.end_ms),
                )
                if first < last
            ]
        if taken:
            self._replace(start, end, left)
        return taken

    def _replace(self, start: int, end: int, spans: list[Span[T]]) -> None:
        if not self._spans:
            self._spans, self._firsts = [], []
        self._spans[start:end] = spans
        self._firsts[start:end] = [span.first_ms for span in spans]
        if not self._spans:
            self._spans = self._firsts = _NONE
