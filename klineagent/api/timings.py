"""Histograms of durations: of flushes, passes of the event loop, and the delays of candles."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import accumulate
from time import perf_counter
from typing import Literal

import trio
from attrs import define, field
from prometheus_client.utils import floatToGoString

from klineagent.core.interval import SECOND_MS
from klineagent.core.kline import Kline
from klineagent.storage.store import Batch, Table


@define(eq=False)
class Histogram:
    """Counts durations in buckets."""

    bounds: Sequence[float]
    """Upper bounds of the buckets in seconds, ascending and inclusive; one more bucket is above."""
    total: float = field(default=0, init=False)
    _counts: list[int] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._counts = [0] * (len(self.bounds) + 1)

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self._counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds

    @property
    def count(self) -> int:
        """How many durations were counted."""
        return sum(self._counts)

    @property
    def counts(self) -> list[int]:
        """How many durations are in each bucket."""
        return [*self._counts]

    def quantile(self, share: float) -> float | None:
        """Estimate the duration that `share` of all do not exceed; None if there are none.

        Within its bucket they count as spread evenly; above the last bound it is that bound.
        """
        return quantile(self.bounds, self._counts, share)

    def buckets(self) -> list[tuple[str, float]]:
        """Return each bound with its cumulative count, as `HistogramMetricFamily` takes them."""
        bounds = [*map(floatToGoString, self.bounds), "+Inf"]
        return list(zip(bounds, accumulate(self._counts), strict=True))


def quantile(bounds: Sequence[float], counts: Sequence[int], share: float) -> float | None:
    """Estimate a quantile of durations that were counted; see `Histogram.quantile`. Pure."""
    left = share * sum(counts)
    if not left:
        return None
    for low, high, count in zip((0.0, *bounds), bounds, counts, strict=False):
        if left <= count:
            return low + (high - low) * left / count
        left -= count
    return bounds[-1]


FLUSH_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
# A flush waits a second, a deadline passes after five, a candle is fetched within ten more.
STORED_BOUNDS_S = (0.25, 0.5, 1, 1.5, 2, 3, 5, 10, 15, 30, 60, 300, 1800)
# A closing event comes within a few hundredths of a second; one that does not is fetched.
ARRIVED_BOUNDS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 7.5, 10, 15, 30, 60, 300, 1800)
LAG_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)


class LoopLag(trio.abc.Instrument):
    """Measures each pass of the event loop in real time: how long other tasks had to wait."""

    def __init__(self) -> None:
        self.passes = Histogram(LAG_BOUNDS_S)
        self._began_at = perf_counter()

    def after_io_wait(self, timeout: float) -> None:
        """Start the clock: runnable tasks run now."""
        self._began_at = perf_counter()

    def before_io_wait(self, timeout: float) -> None:
        """Stop the clock: all of them have run."""
        self.passes.observe(perf_counter() - self._began_at)


Delays = defaultdict[tuple[str, ...], Histogram]
"""Durations by venue and interval."""
Stage = Literal["received", "stored", "readable"]


def _delays(bounds: Sequence[float]) -> Delays:
    return defaultdict(partial(Histogram, bounds))


def _always(_: Kline) -> bool:
    return True


def _unknown(_: str) -> None:
    return None


@define(eq=False)
class Timings:
    """The histograms of one agent."""

    now_ms: Callable[[str], int | None] = field(default=_unknown, init=False)
    """Returns the exchange's time on a venue, by its name; None if the venue does not run."""
    watched: Callable[[Kline], bool] = field(default=_always, init=False)
    """Whether the candle's series ran already when it closed; older candles are fetched late."""
    flushes: Histogram = field(factory=partial(Histogram, FLUSH_BOUNDS_S), init=False)
    """Durations of acknowledged inserts."""
    stored_after: Delays = field(factory=partial(_delays, STORED_BOUNDS_S), init=False)
    """Seconds from a candle's close to the store's acknowledgement, by venue and interval."""
    received_after: Delays = field(factory=partial(_delays, ARRIVED_BOUNDS_S), init=False)
    """Seconds from a candle's close to its closing event, by venue and interval."""
    readable_after: Delays = field(factory=partial(_delays, ARRIVED_BOUNDS_S), init=False)
    """Seconds from a candle's close until the read side has it, by venue and interval."""
    loop: LoopLag = field(factory=LoopLag, init=False)

    def acknowledged(self, batch: Batch, took_s: float) -> None:
        """Note that the store acknowledged `batch`, `took_s` seconds after it was sent."""
        self.flushes.observe(took_s)
        if batch.table is Table.KLINES:
            self._observe(self.stored_after, batch.klines)

    def received(self, kline: Kline, now_ms: int) -> None:
        """Note that the closing event of a candle came at `now_ms`."""
        _observe_late(self.received_after, kline, now_ms)

    def put(self, klines: Sequence[Kline]) -> None:
        """Note what the read side has by now; see `Subscriber`."""
        if closed := [kline for kline in klines if kline.is_closed]:
            self._observe(self.readable_after, closed)

    @property
    def stages(self) -> Mapping[Stage, Delays]:
        """The delays of candles by how far they had come."""
        return {
            "received": self.received_after,
            "stored": self.stored_after,
            "readable": self.readable_after,
        }

    def _observe(self, delays: Delays, klines: Sequence[Kline]) -> None:
        times_ms = {venue: self.now_ms(venue) for venue in {row.venue for row in klines}}
        for kline in klines:
            now_ms = times_ms[kline.venue]
            if now_ms is not None and kline.is_closed and self.watched(kline):
                _observe_late(delays, kline, now_ms)


def _observe_late(delays: Delays, kline: Kline, now_ms: int) -> None:
    late_s = max(0, now_ms - kline.close_time - 1) / SECOND_MS
    delays[kline.venue, kline.interval].observe(late_s)


@asynccontextmanager
async def open_timings() -> AsyncIterator[Timings]:
    """Yield empty histograms, and time the event loop's passes until the block ends."""
    timings = Timings()
    trio.lowlevel.add_instrument(timings.loop)
    try:
        yield timings
    finally:
        trio.lowlevel.remove_instrument(timings.loop)
