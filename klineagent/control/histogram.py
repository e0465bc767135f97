"""A histogram that costs next to nothing to fill; prometheus_client's takes a lock and a search."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

from attrs import define, field
from prometheus_client.utils import floatToGoString


@define(eq=False)
class Histogram:
    """How often something took how long."""

    bounds: Sequence[float]
    """Ascending, in seconds, each included; above the last there is one bucket more."""
    total: float = field(default=0, init=False)
    _counts: list[int] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._counts = [0] * (len(self.bounds) + 1)

    def observe(self, seconds: float) -> None:
        """It took that long once more."""
        self._counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds

    @property
    def count(self) -> int:
        """How often it was observed."""
        return sum(self._counts)

    def buckets(self) -> list[tuple[str, float]]:
        """Each bound and how often it was kept, as `HistogramMetricFamily` takes them."""
        bounds = [*map(floatToGoString, self.bounds), "+Inf"]
        return list(zip(bounds, accumulate(self._counts), strict=True))
