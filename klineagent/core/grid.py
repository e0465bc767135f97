"""The grids that candles stand on, and unbroken runs of candles. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from attrs import frozen

from klineagent.core.kline import DAY_MS, Interval

BY_LENGTH: Mapping[str, int] = {interval.value: rank for rank, interval in enumerate(Interval)}
"""The rank of an interval's name among the lengths."""

Run = tuple[int, int]
"""First and last open time of candles with none missing between."""


@frozen
class Grid:
    """Open times are whole steps from the origin; those of months are some of them."""

    origin_ms: int
    step_ms: int
    longest_ms: int
    """How far apart neighbours are at most; if one is missing, the two around it are further."""


def _grid(interval: Interval) -> Grid:
    # The candle around the epoch is as long as any: January has 31 days.
    origin_ms = interval.open_at(0)
    longest_ms = interval.next_open(origin_ms) - origin_ms
    step_ms = DAY_MS if interval is Interval.MO1 else longest_ms
    return Grid(origin_ms, step_ms, longest_ms)


GRIDS: Mapping[str, Grid] = {interval.value: _grid(interval) for interval in Interval}
"""By the name of an interval."""


def on_grid(opens: Iterable[int], interval: str) -> list[int]:
    """Those of `opens` that are open times of `interval`."""
    grid = GRIDS[interval]
    origin_ms, step_ms = grid.origin_ms, grid.step_ms
    steps = [open_ms for open_ms in opens if (open_ms - origin_ms) % step_ms == 0]
    if step_ms == grid.longest_ms:
        return steps
    return [open_ms for open_ms in steps if Interval(interval).open_at(open_ms) == open_ms]


def opens_in(first_ms: int, end_ms: int, interval: str) -> Iterator[int]:
    """The open times of `interval` in [`first_ms`, `end_ms`)."""
    of_interval = Interval(interval)
    open_ms = of_interval.first_open(first_ms)
    grid = GRIDS[interval]
    if grid.step_ms == grid.longest_ms:
        yield from range(open_ms, end_ms, grid.step_ms)
        return
    while open_ms < end_ms:
        yield open_ms
        open_ms = of_interval.next_open(open_ms)


def runs_of(opens: Iterable[int], interval: str) -> tuple[Run, ...]:
    """First and last open time of each unbroken run of `opens`: open times that ascend."""
    longest_ms = GRIDS[interval].longest_ms
    runs: list[Run] = []
    for open_ms in opens:
        if runs and open_ms - runs[-1][1] <= longest_ms:
            runs[-1] = (runs[-1][0], open_ms)
        else:
            runs.append((open_ms, open_ms))
    return tuple(runs)


def runs_begin_at(runs: Sequence[Run], first_ms: int, interval: str) -> bool:
    """Whether the first candle that opens at `first_ms` or later is among `runs`, which ascend."""
    return bool(runs) and runs[0][0] <= Interval(interval).first_open(first_ms)
