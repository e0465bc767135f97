"""The candles of a series that were lost since the agent started, and how they fared. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from attrs import define, evolve, field

from klineagent.core.interval import SECOND_MS
from klineagent.series.marks import Absent, Loss, Missing, Urgency
from klineagent.series.spans import Span, Spans

# Those of one outage are one span, and nearly all series have none. If all of Binance's 33,000
# series lose candles that often, they take some 400 MB, with their copies for the dashboard; then
# the oldest are forgotten.
MOST_SPANS = 16


@define(eq=False)
class LossRecord:
    """Remembers lost candles, by their open times."""

    changes: int = field(default=0, init=False)
    """How often it has changed: equal numbers mean equal losses."""
    _spans: Spans[Loss] = field(factory=Spans, init=False)

    def __iter__(self) -> Iterator[Span[Loss]]:
        """Iterate over the losses, by the candles' open times."""
        return iter(self._spans)

    def __len__(self) -> int:
        return len(self._spans)

    def at(self, open_ms: int) -> Loss | None:
        """Return how a candle was lost; None if it was not."""
        found = self._spans.at(open_ms)
        return None if found is None else found.mark

    def within(self, first_ms: int, end_ms: int) -> list[Span[Loss]]:
        """Return the losses in [`first_ms`, `end_ms`)."""
        return self._spans.within(first_ms, end_ms)

    def lose(
        self,
        first_ms: int,
        end_ms: int,
        urgency: Urgency,
        now_ms: int,
        known: Iterable[Span[Missing]],
    ) -> None:
        """Note that candles in [`first_ms`, `end_ms`) are missing, but for those `known` to be."""
        before = self.at(first_ms - 1)
        goes_on = before is not None and before.urgency is urgency and not before.is_over
        loss = before if before is not None and goes_on else Loss(urgency, now_ms)
        for gap in known:
            self._mark(first_ms, gap.first_ms, loss)
            first_ms = gap.end_ms
        self._mark(first_ms, end_ms, loss)

    def heal(self, first_ms: int, end_ms: int, now_ms: int) -> None:
        """Note that those in [`first_ms`, `end_ms`) came.

        The candles of a page come one by one and are one loss, so the time is that of the second;
        but none came before it was lost.
        """
        came_ms = now_ms - now_ms % SECOND_MS
        for each in self._spans.within(first_ms, end_ms):
            healed = evolve(each.mark, came_ms=max(came_ms, each.mark.found_ms), given_up=None)
            self._mark(each.first_ms, each.end_ms, healed)

    def give_up(self, first_ms: int, end_ms: int, reason: Absent) -> None:
        """Note that those in [`first_ms`, `end_ms`) will not come."""
        for each in self._spans.within(first_ms, end_ms):
            self._mark(each.first_ms, each.end_ms, evolve(each.mark, given_up=reason))

    def forget(self, first_ms: int, end_ms: int) -> None:
        """Forget what was noted of [`first_ms`, `end_ms`)."""
        if self._spans.clear(first_ms, end_ms):
            self.changes += 1

    def _mark(self, first_ms: int, end_ms: int, loss: Loss) -> None:
        if first_ms < end_ms:
            self._spans.mark(first_ms, end_ms, loss)
            self.changes += 1
            while len(self._spans) > MOST_SPANS:
                oldest = next(iter(self._spans))
                self._spans.clear(oldest.first_ms, oldest.end_ms)


NO_LOSSES = LossRecord()
"""The record of all that lost nothing, as nearly all series: never changed."""
