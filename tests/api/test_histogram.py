from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from klineagent.api.timings import Histogram

BOUNDS = (0.5, 1, 2)


@given(st.lists(st.floats(0, 10)))
def test_each_bucket_counts_what_is_not_above_its_bound(times: list[float]) -> None:
    """As Prometheus has it: buckets include those before them, the last counts all."""
    histogram = Histogram(BOUNDS)
    for seconds in times:
        histogram.observe(seconds)
    kept = [sum(seconds <= bound for seconds in times) for bound in BOUNDS]
    assert [count for _, count in histogram.buckets()] == [*kept, len(times)]
    assert [bound for bound, _ in histogram.buckets()] == ["0.5", "1.0", "2.0", "+Inf"]
    assert histogram.count == len(times)
    assert histogram.total == sum(times)
