"""`GET /metrics`: the agent's metrics for Prometheus, read from where they are counted."""

from __future__ import annotations

import math
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence

import trio
from attrs import frozen
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from quart import Response, request
from quart_trio import QuartTrio

from klineagent import __version__
from klineagent.api.openapi import operation
from klineagent.api.routes.health import CountedVenues, counted_venues, shortcomings
from klineagent.api.routes.job_metrics import JobMetrics
from klineagent.api.timings import Histogram, Timings
from klineagent.core.interval import SECOND_MS
from klineagent.exchange.budget import WeightBudget
from klineagent.exchange.regularity import Flaw
from klineagent.jobs.jobs import Jobs
from klineagent.reading.streams.hub import StreamCounts
from klineagent.series.marks import Absent, Urgency
from klineagent.series.statistics import Totals
from klineagent.series.venues import RunningVenue, Venues
from klineagent.storage.writing.refused import RowKind
from klineagent.storage.writing.writer import Writer


def add_metrics_route(
    app: QuartTrio,
    *,
    venues: Venues,
    writer: Writer,
    jobs: Jobs,
    timings: Timings,
    streams: StreamCounts,
) -> None:
    """Add `GET /metrics`."""
    process = ProcessCollector(registry=None)

    @app.get("/metrics")
    @operation("text/plain", tag="health")
    async def metrics() -> Response:
        """Return all metrics in Prometheus' text format, or in OpenMetrics if accepted."""
        counted = await counted_venues(venues)
        figures = AgentMetrics(
            venues=venues, counted=counted, writer=writer, timings=timings, streams=streams
        )
        collectors = CollectorRegistry(auto_describe=False)
        for collector in (figures, JobMetrics(jobs), process):
            collectors.register(collector)
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return Response(encode(collectors), content_type=content_type)


@frozen(eq=False, kw_only=True)
class AgentMetrics(Collector):
    """Collects all metrics as of one moment; names of counters end in `_total`."""

    venues: Venues
    counted: CountedVenues
    writer: Writer
    timings: Timings
    streams: StreamCounts

    def collect(self) -> Iterable[Metric]:
        """See `Collector`."""
        yield InfoMetricFamily(
            "klineagent_build",
            "The running program.",
            {
                "version": __version__,
                "python": platform.python_version(),
                "venue": self.venues.default.name,
            },
        )
        ready = not shortcomings(self.venues, self.writer, self.counted)
        yield _gauge("ready", "Whether the agent is ready (1), as GET /ready reports.", ready)
        yield _histogram(
            "event_loop_lag_seconds",
            "Duration of a pass of the event loop, in which other tasks wait.",
            {(): self.timings.loop.passes},
        )
        yield from _joined(
            "venue",
            {
                running.venue.name: VenueMetrics(running, totals).collect()
                for running, totals in self.counted
            },
        )
        budgets = [running.context.rest.budget for running, _ in self.counted]
        yield from _joined("pool", {each.pool.name: _weight(each) for each in budgets})
        yield from self._rows()
        yield from self._spool()
        cut = "Clients of streams disconnected because they did not read."
        yield _gauge("stream_clients", "Clients that listen to streams.", self.streams.clients)
        yield _counter("stream_clients_cut", cut, self.streams.cut)

    def _rows(self) -> Iterator[Metric]:
        writer = self.writer
        dropped = {
            "closed": writer.waiting.dropped_closed,
            "forming": writer.waiting.dropped_forming,
            "update": writer.updates_dropped,
        }
        yield _gauge("store_up", "Whether the database takes rows.", writer.inserter.is_up)
        yield _counter("rows_stored", "Rows the database acknowledged.", writer.stored)
        yield _counter("rows_refused", "Rows the database will never take.", writer.refused)
        refused_series = writer.inserter.refused_series
        yield _counters(
            "rows_refused_by_kind",
            "Rows the database will never take, by kind; forming ones are not kept.",
            "kind",
            {each.value: refused_series.counts[each] for each in RowKind},
        )
        yield _counter(
            "rows_withheld",
            "Forming rows not sent because the database refused rows of their series.",
            refused_series.withheld,
        )
        yield _counters(
            "rows_dropped", "Rows dropped because memory or the spool was full.", "kind", dropped
        )
        yield _counter("rows_spooled", "Rows written to the spool.", writer.spooled)
        yield _gauge("queue_rows", "Rows waiting in memory.", writer.rows_waiting)
        yield _gauge(
            "queue_limit_rows", "Most rows that may wait in memory.", writer.waiting.capacity
        )
        yield _histogram(
            "flush_seconds",
            "Duration of acknowledged inserts.",
            {(): self.timings.flushes},
        )
        yield _histogram(
            "close_to_stored_seconds",
            "Time from a candle's close to the database's acknowledgement.",
            self.timings.stored_after,
            labels=["venue", "interval"],
        )

    def _spool(self) -> Iterator[Metric]:
        if (spool := self.writer.spool) is None:
            return
        yield _gauge("spool_bytes", "Size of the spool's files.", spool.bytes)
        yield _gauge("spool_limit_bytes", "Largest size of the spool's files.", spool.limit_bytes)
        yield _gauge("spool_segments", "Batches waiting in the spool.", spool.segments)
        yield _gauge("spool_rows", "Rows waiting in the spool.", spool.rows)
        yield _gauge(
            "spool_dead_letters", "Dead letters: batches the database refused.", spool.dead_letters
        )
        yield _gauge(
            "spool_damaged_files", "Damaged files in the spool's quarantine.", spool.damaged
        )


@frozen
class VenueMetrics:
    """The metrics of one venue, without its name."""

    running: RunningVenue
    totals: Totals

    def collect(self) -> Iterator[Metric]:
        """Yield the same metrics for every venue, in the same order."""
        yield from self._feeds()
        yield from self._rest()
        yield from self._series()

    def _feeds(self) -> Iterator[Metric]:
        pool = self.running.context.pool
        counts, feeds = pool.counts, pool.connection_counts
        up = sum(each.is_up for each in pool.slots)
        yield _counter("klines_received", "Klines received on connections.", counts.klines)
        yield _counter("klines_unwanted", "Klines of streams no longer wanted.", counts.unwanted)
        yield _counters(
            "bad_frames",
            "Frames dropped because they are unreadable or contradict themselves.",
            "reason",
            {_label(each): counts.bad[each] for each in Flaw},
        )
        yield _counter("other_events", "Events other than klines.", counts.other_events)
        yield _gauge(
            "event_age_seconds",
            "Seconds since the last kline was received; NaN if none ever was.",
            _age(pool.last_kline_at),
        )
        yield _gauge(
            "exchange_clock_age_seconds",
            "Seconds since the exchange's clock was last read, from any source; NaN if never.",
            _finite(self.running.context.time.silent_s()),
        )
        reckoning = self.running.context.time.reckoning
        yield _counter(
            "event_times_rejected",
            "Event times rejected as too far ahead.",
            reckoning.rejected,
        )
        yield _counter(
            "exchange_clock_steps",
            "Steps of the exchange's clock by more than 5 s, forward or back.",
            reckoning.steps,
        )
        yield _gauges(
            "feeds",
            "Connection slots.",
            "state",
            {"up": up, "down": len(pool.slots) - up},
        )
        yield _counter("feed_dials", "Connection attempts.", feeds.dials)
        yield _counter("feeds_lost", "Connections lost.", feeds.lost)
        yield _counter("feeds_replaced", "Connections replaced by a new one.", feeds.replaced)
        yield _gauge("dials_used", "Connection attempts in the current window.", pool.dials.taken)
        yield _gauge("dials_limit", "Connection attempts allowed in a window.", pool.dials.count)

    def _rest(self) -> Iterator[Metric]:
        rest = self.running.context.rest
        spending = rest.budget.spending()
        yield _gauge("rest_waiting_requests", "REST requests waiting for weight.", spending.waiting)
        yield _gauge(
            "rest_standing_down_seconds",
            "Seconds until the next REST request, after a refusal or failure.",
            spending.backing_off_s,
        )
        yield _counter("rest_requests", "REST requests sent.", rest.counts.requests)
        yield _counter(
            "rest_refusals", "REST requests refused because of a limit.", rest.counts.refused
        )
        yield _counter(
            "rest_failures", "REST requests without a usable answer.", rest.counts.failed
        )
        yield _counter(
            "rest_odd_elements",
            "Symbols and candles in REST answers that are unreadable or impossible.",
            rest.counts.odd,
        )

    def _series(self) -> Iterator[Metric]:
        totals, tally = self.totals, self.running.context.tally
        yield _gauge("symbols", "Symbols with subscriptions.", len(self.running.registry.symbols()))
        yield _gauge(
            "symbols_refused",
            "Symbols wanted by name that cannot be recorded: unknown to the exchange, or above"
            " max_symbols.",
            len(self.running.desired.refused),
        )
        yield _gauges(
            "subscriptions",
            "Series being recorded.",
            "state",
            {"active": totals.active, "inactive": totals.series - totals.active},
        )
        yield _gauge("series_incomplete", "Series with missing candles.", totals.incomplete)
        yield _gauges(
            "series_lag_seconds",
            "Seconds since the close of the newest candle not missing, at worst; 0 if up to date.",
            "interval",
            {each.value: lag_ms / SECOND_MS for each, lag_ms in totals.lag_ms.items()},
        )
        yield _gauge(
            "overdue_seconds",
            "Seconds since the oldest missing candle of a running series fell due.",
            self._overdue_s(),
        )
        yield _gauge(
            "audit_age_seconds",
            "Seconds since the least recently audited series was compared with the database.",
            self._audit_age_s(),
        )
        yield _counter(
            "audit_findings",
            "Candles counted as stored that the audit did not find in the database.",
            tally.overlooked,
        )
        yield _gauges(
            "candles_missing",
            "Candles known to be missing.",
            "urgency",
            {_label(each): totals.missing[each] for each in Urgency},
        )
        yield _counters(
            "candles_found_missing",
            "Candles found to be missing.",
            "urgency",
            {_label(each): tally.found[each] for each in Urgency},
        )
        yield _counters(
            "candles_healed",
            "Missing candles recovered.",
            "urgency",
            {_label(each): tally.healed[each] for each in Urgency},
        )
        yield _counters(
            "candles_forgone",
            "Missing candles given up as absent.",
            "reason",
            {_label(each): tally.given_up[each] for each in Absent},
        )
        yield _counter(
            "absences_disproved", "Absent candles the exchange had after all.", tally.disproved
        )

    def _audit_age_s(self) -> float:
        if (audited_ms := self.totals.audited_ms) is None:
            return math.nan
        return max(0, self.running.context.time.now_ms() - audited_ms) / SECOND_MS

    def _overdue_s(self) -> float:
        if not self.totals.overdue:
            return 0
        oldest_ms = min(since_ms for since_ms, _ in self.totals.overdue)
        return max(0, self.running.context.time.now_ms() - oldest_ms) / SECOND_MS


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"klineagent_{name}", text, value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"klineagent_{name}", text, value)


def _gauges(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(f"klineagent_{name}", text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _counters(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = CounterMetricFamily(f"klineagent_{name}", text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _histogram(
    name: str,
    text: str,
    histograms: Mapping[tuple[str, ...], Histogram],
    *,
    labels: Sequence[str] = (),
) -> Metric:
    """One of each key, which has the values of `labels`."""
    family = HistogramMetricFamily(f"klineagent_{name}", text, labels=labels)
    for key, each in histograms.items():
        family.add_metric(key, each.buckets(), each.total)
    return family


def _weight(budget: WeightBudget) -> Iterator[Metric]:
    """The metrics of one weight pool, without its name."""
    spending = budget.spending()
    yield _gauge("rest_weight_used", "REST weight used this minute.", spending.used)
    yield _gauge(
        "rest_weight_limit", "REST weight this agent uses in a minute at most.", spending.limit
    )


def _joined(label: str, parts: Mapping[str, Iterator[Metric]]) -> Iterator[Metric]:
    """Join the metrics of `parts`, the same ones of each: `label` says of which a sample is."""
    for alike in zip(*parts.values(), strict=True):
        joined = alike[0]
        joined.samples = [
            sample._replace(labels={label: name, **sample.labels})
            for name, metric in zip(parts, alike, strict=True)
            for sample in metric.samples
        ]
        yield joined


def _label(kind: Urgency | Absent | Flaw) -> str:
    return kind.name.lower()


def _age(at: float) -> float:
    return _finite(trio.current_time() - at)


def _finite(seconds: float) -> float:
    return seconds if math.isfinite(seconds) else math.nan
