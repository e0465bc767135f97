"""Figures of an agent at one moment, and what they come to between two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import trio
from attrs import frozen

from klineagent.api.models.overview import OverviewPoint
from klineagent.api.models.timestamps import utc
from klineagent.api.routes.health import CountedVenues
from klineagent.api.timings import Delays, Stage, Timings, quantile
from klineagent.core.interval import SECOND_MS
from klineagent.storage.writing.writer import Writer

SHARE = 0.99


@frozen(kw_only=True)
class Figures:
    """What is counted since the start, and what stands at the moment."""

    at_s: float
    """By Trio's clock."""
    at_ms: int
    """By the exchange's clock."""
    received: int
    stored: int
    missing: int
    behind_ms: int
    delays: Mapping[Stage, tuple[Sequence[float], Sequence[int]]]
    """The bounds and counts of all venues and intervals together."""
    passes: tuple[Sequence[float], Sequence[int]]
    """Those of the event loop."""

    @classmethod
    def of(cls, counted: CountedVenues, writer: Writer, timings: Timings) -> Figures:
        """Read the figures of an agent."""
        main, _ = counted[0]
        return cls(
            at_s=trio.current_time(),
            at_ms=main.context.time.now_ms(),
            received=sum(each.context.pool.counts.klines for each, _ in counted),
            stored=writer.stored,
            missing=sum(totals.missing.total() for _, totals in counted),
            behind_ms=longest_lag_ms(counted),
            delays={stage: _sum_of(delays) for stage, delays in timings.stages.items()},
            passes=(timings.loop.passes.bounds, timings.loop.passes.counts),
        )


def longest_lag_ms(counted: CountedVenues) -> int:
    """Return the longest lag of all series."""
    return max((lag for _, totals in counted for lag in totals.lag_ms.values()), default=0)


def point_between(before: Figures, now: Figures, *, number: int) -> OverviewPoint:
    """Return what happened between two moments."""
    took_s = max(now.at_s - before.at_s, 0.001)
    late = {stage: _quantile(before.delays[stage], counts) for stage, counts in now.delays.items()}
    pass_s = _quantile(before.passes, now.passes)
    return OverviewPoint(
        number=number,
        at=utc(now.at_ms),
        received_per_second=round((now.received - before.received) / took_s, 1),
        stored_per_second=round((now.stored - before.stored) / took_s, 1),
        missing=now.missing,
        behind_seconds=now.behind_ms / SECOND_MS,
        received_p99_seconds=late["received"],
        stored_p99_seconds=late["stored"],
        readable_p99_seconds=late["readable"],
        loop_lag_ms=None if pass_s is None else round(pass_s * SECOND_MS, 3),
    )


_Counts = tuple[Sequence[float], Sequence[int]]


def _quantile(before: _Counts, now: _Counts) -> float | None:
    bounds, counts = now
    # What was counted before the first candle has no classes yet.
    earlier = before[1] or [0] * len(counts)
    found = quantile(bounds, [new - old for new, old in zip(counts, earlier, strict=True)], SHARE)
    return None if found is None else round(found, 4)


def _sum_of(delays: Delays) -> _Counts:
    histograms = [*delays.values()]
    counts = zip(*(each.counts for each in histograms), strict=True)
    return histograms[0].bounds if histograms else (), [*map(sum, counts)]
