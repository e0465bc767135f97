"""Tables of results for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rich import box
from rich.table import Table

from klineagent.bench.bots.comparison import WayResult
from klineagent.bench.figures import AgentFigures, Answers, Spread
from klineagent.bench.outcome import Bar
from klineagent.bench.peers.ranking import PeerResult

_PLAIN_FROM = 1000
_MEGA = 1_000_000


def figures_table(title: str, runs: Mapping[str, AgentFigures]) -> Table:
    """Make a table with a column for each run and a line for each figure."""
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("", no_wrap=True)
    for name in runs:
        table.add_column(name, no_wrap=True, justify="right")
    for label, *values in zip(_LABELS, *map(_lines, runs.values()), strict=True):
        table.add_row(label, *values)
    return table


def bars_table(bars: Iterable[Bar]) -> Table:
    """Make a table with a line for each bar."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("bar", no_wrap=True)
    for name in ("should be", "is"):
        table.add_column(name, no_wrap=True, justify="right")
    table.add_column("", no_wrap=True)
    for bar in bars:
        seen = _number(bar.seen, ",.0f" if (bar.seen or 0) >= _PLAIN_FROM else ".3g")
        table.add_row(bar.what, _bound(bar), seen, _verdict(bar))
    return table


def answers_table(answers: Answers) -> Table:
    """Make a table with a line for each kind of request, the slowest first."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("request", no_wrap=True)
    for name in ("count", "p50 ms", "p99 ms", "max ms"):
        table.add_column(name, no_wrap=True, justify="right")
    slowest_first = sorted(answers.kinds.items(), key=lambda each: -each[1].p99)
    spreads = {
        **dict(slowest_first),
        "all of them": answers.took_ms,
        "of which before it was sent": answers.begun_late_ms,
    }
    for name, spread in spreads.items():
        if spread is not None:
            times = (f"{each:.1f}" for each in (spread.p50, spread.p99, spread.max))
            table.add_row(name, f"{spread.count:,}", *times)
    for failure, count in answers.errors.items():
        table.add_row(f"failed: {failure}", f"{count:,}", "", "", "")
    table.caption = f"load generator: {100 * answers.cpu_s / answers.seconds:.0f} % of a core"
    return table


def peers_table(results: Iterable[PeerResult]) -> Table:
    """Make a table with a line for each client and rate."""
    table = Table(title="peers", box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), pad_edge=False)
    for name in ("client", "", "over", "rate"):
        table.add_column(name, no_wrap=True)
    for name in ("messages a second", "CPU us a message", "times ours"):
        table.add_column(name, no_wrap=True, justify="right")
    for result in results:
        figures = (
            _number(result.messages_per_s, ",.0f"),
            _number(result.cpu_us_per_message, ".2f"),
            _number(result.times_ours, ".1f"),
        )
        table.add_row(
            result.client,
            result.version,
            result.transport,
            result.rate,
            *(figures if result.failure is None else (result.failure, "", "")),
        )
    return table


def ways_table(results: Iterable[WayResult]) -> Table:
    """Make a table with a line for each way of bots to the exchange."""
    table = Table(title="bots", box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("", no_wrap=True)
    for name in ("requests at the start", "at the closes", "weight", "to the candles, s", "failed"):
        table.add_column(name, no_wrap=True, justify="right")
    for each in results:
        table.add_row(
            each.way,
            f"{each.requests_at_start:,}",
            f"{each.requests:,}",
            f"{each.weight:,}",
            _spread(each.took_s),
            ", ".join(f"{error} {count}" for error, count in each.errors.items()) or "none",
        )
    return table


def _verdict(bar: Bar) -> str:
    if bar.least is None and bar.most is None:
        return ""
    if bar.is_met:
        return "held"
    return "not measured" if bar.seen is None else "missed"


def _bound(bar: Bar) -> str:
    if bar.least is not None:
        return f"at least {bar.least:,g}"
    return "" if bar.most is None else f"at most {bar.most:,g}"


_LABELS = (
    "messages a second",
    "CPU us a message",
    "% of one core",
    "the twin's % of one core",
    "RSS, MB (peak)",
    "close to stored, ms",
    "event-loop lag, ms",
    "/ping, ms",
    "rows an insert",
    "rows stored a second",
    "candles closed, stored (found)",
    "age of the newest row, ms (in the end)",
    "bad frames, candles healed, missing",
    "warnings",
)


def _lines(figures: AgentFigures) -> tuple[str, ...]:
    warnings = ", ".join(f"{event} {count}" for event, count in figures.warnings.items())
    return (
        f"{figures.messages_per_s:,.0f}",
        _number(figures.cpu_us_per_message, ".2f"),
        f"{figures.core_percent:.1f}",
        _number(figures.twin_core_percent, ".1f"),
        f"{figures.rss / _MEGA:.0f} ({figures.peak_rss / _MEGA:.0f})",
        _spread(figures.close_to_stored_ms),
        _spread(figures.lag_ms),
        _spread(figures.ping_ms),
        _number(figures.rows_per_insert, ",.0f"),
        f"{figures.rows_per_s:,.0f}",
        f"{figures.closed:,} ({figures.found:,})",
        f"{_spread(figures.insert_age_ms)} ({_number(figures.newest_age_ms, ',d')})",
        f"{figures.bad_frames}, {figures.healed}, {figures.missing}",
        warnings or "none",
    )


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _spread(spread: Spread | None) -> str:
    if spread is None:
        return "-"
    return f"p50 {spread.p50:.1f}  p99 {spread.p99:.1f}  max {spread.max:.1f}"
