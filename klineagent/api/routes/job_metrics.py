"""Metrics of jobs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from attrs import frozen
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from klineagent.jobs.job import JobState
from klineagent.jobs.jobs import Jobs
from klineagent.storage.history import FileState


@frozen(eq=False)
class JobMetrics(Collector):
    """Collects the metrics of jobs as of one moment."""

    jobs: Jobs

    def collect(self) -> Iterable[Metric]:
        """See `Collector`."""
        counts = self.jobs.counts
        yield CounterMetricFamily(
            "klineagent_import_rows", "Candles that jobs have stored.", counts.rows
        )
        files = CounterMetricFamily(
            "klineagent_import_files",
            "Files of the archive that jobs have taken.",
            labels=["state"],
        )
        for kind in (FileState.IMPORTED, FileState.SHORT, FileState.REFUSED):
            files.add_metric([kind.value], counts.files[kind.value])
        yield files
        by_state = Counter(each.state for each in self.jobs.all())
        jobs = GaugeMetricFamily("klineagent_jobs", "Jobs that are remembered.", labels=["state"])
        for state in JobState:
            jobs.add_metric([state.value], by_state[state])
        yield jobs
