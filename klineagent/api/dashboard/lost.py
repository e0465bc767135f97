"""Lost candles as the overview reports them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from attrs import evolve

from klineagent.api.models.overview import LostSpan
from klineagent.api.models.timestamps import utc
from klineagent.api.routes.coverage import HOW
from klineagent.series.ledger import Ledger
from klineagent.series.marks import Loss
from klineagent.series.spans import Span


def lost_spans(ledger: Ledger, *, venue: str, symbol: str) -> list[LostSpan]:
    """Return the losses of a series, adjacent ones as one; none has a number yet."""
    return [
        LostSpan(
            number=0,
            venue=venue,
            symbol=symbol,
            interval=ledger.interval.value,
            from_=utc(each.first_ms),
            to=utc(ledger.interval.shifted(each.end_ms, -1)),
            candles=ledger.count([each]),
            how=HOW[each.mark.urgency],
            found=utc(each.mark.found_ms),
            healed=None if each.mark.came_ms is None else utc(each.mark.came_ms),
            absent="" if each.mark.given_up is None else each.mark.given_up.value,
        )
        for each in joined(ledger.losses)
    ]


def joined(losses: Iterable[Span[Loss]]) -> Iterator[Span[Loss]]:
    """Join adjacent losses of one cause that fared alike: found by the first, over by the last."""
    last: Span[Loss] | None = None
    for each in losses:
        if last is not None and last.end_ms == each.first_ms and _are_alike(last.mark, each.mark):
            came = [mark.came_ms for mark in (last.mark, each.mark) if mark.came_ms is not None]
            found_ms = min(last.mark.found_ms, each.mark.found_ms)
            mark = evolve(each.mark, found_ms=found_ms, came_ms=max(came, default=None))
            last = Span(last.first_ms, each.end_ms, mark)
            continue
        if last is not None:
            yield last
        last = each
    if last is not None:
        yield last


def _are_alike(one: Loss, other: Loss) -> bool:
    return (
        one.urgency is other.urgency
        and one.given_up is other.given_up
        and (one.came_ms is None) == (other.came_ms is None)
    )
