"""Renders an agent's answers for a terminal, in at most 80 columns. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from klineagent.api.models.contract import Connections, SymbolsAdded
from klineagent.api.models.reports import (
    Feeds,
    Limits,
    SeriesCoverage,
    SpoolState,
    Storage,
    Why,
)
from klineagent.api.models.subscriptions import (
    SubscriptionOutcome,
    SubscriptionsNow,
    SymbolReason,
)
from klineagent.cli.remote.exchange_views import feeds_text, messages_rate, weight_text
from klineagent.cli.remote.wording import counted, duration, short
from klineagent.cli.tables import plain_table
from klineagent.core.interval import Interval
from klineagent.series.desired.wire_format import Pattern, Wanted

_SHOWN_STREAMS = 8
_SHOWN_REFUSED = 5
_NO_MATCH = "matches no symbol at the moment"
_CLOCKS = {"1s": " %H:%M:%S", "1d": "", "3d": "", "1w": "", "1M": ""}
"""The time-of-day format of intervals that are not shown to the minute."""
_BEHIND_THE_YEAR, _TO_THE_MINUTE = len("2026-"), len("2026-02-01 00:00")
_BY_LENGTH = {interval.value: rank for rank, interval in enumerate(Interval)}


def status_view(
    streams: int,
    symbols: int,
    *,
    feeds: Feeds,
    limits: Limits,
    storage: Storage,
    refused: Sequence[SymbolReason] = (),
) -> RenderableType:
    """Render the agent's state on a few lines; one more if symbols were refused."""
    reasons = "; ".join(each.reason for each in refused[:_SHOWN_REFUSED])
    more = f"; and {len(refused) - _SHOWN_REFUSED} more" if len(refused) > _SHOWN_REFUSED else ""
    return _facts(
        {
            "streams": f"{streams} of {counted(symbols, 'symbol')}",
            **({"refused": reasons + more} if refused else {}),
            "feeds": feeds_text(feeds.feeds),
            "messages": f"{messages_rate(feeds):.0f} a second",
            "weight": weight_text(limits),
            "database": _database_text(storage),
            "spool": _spool_text(storage.spool),
        }
    )


def list_view(connections: Connections) -> RenderableType:
    """Render a line per symbol: intervals that a connection carries, and those still waiting."""
    series: dict[str, tuple[list[str], list[str]]] = {}
    for each in sorted(connections.connections, key=lambda each: _length_of(each.interval)):
        active, waiting = series.setdefault(each.symbol, ([], []))
        (active if each.is_active else waiting).append(each.interval)
    table = plain_table(counted(connections.count, "stream"), ["symbol"], ["streams"])
    table.add_column("active")
    table.add_column("not yet")
    for symbol, (active, waiting) in sorted(series.items()):
        count = str(len(active) + len(waiting))
        table.add_row(symbol, count, " ".join(active), " ".join(waiting))
    return table


def set_view(now: SubscriptionsNow) -> RenderableType:
    """Render the desired set as it was requested, and why parts of it are not running."""
    table = plain_table("Wanted", ["from"], [])
    table.add_column("symbols", overflow="fold")
    table.add_column("intervals")
    for each in now.subscriptions:
        table.add_row(each.origin or "", Text(_names(each)), _spaced(each.intervals))
    for without in now.exclude:
        names = Text(f"without {' '.join(without.symbols)}")
        table.add_row("http", names, _spaced(without.intervals))
    streams = now.streams
    counts = (
        f"{counted(streams.wanted, 'stream')} of {counted(now.symbols, 'symbol')}"
        f" ({now.max_symbols} allowed):"
        f" {streams.active} active, {streams.pending} pending, {streams.ending} ending"
    )
    reasons = [Text(f"{each.symbol}: {each.reason}") for each in (*now.refused, *now.pending)]
    saved = [] if now.saved else [Text("not saved: it will not survive a restart")]
    unmatched = [Text(f"{each}: {_NO_MATCH}") for each in now.unmatched]
    return Group(table, Text(counts), *reasons, *unmatched, *saved)


def added_view(added: SymbolsAdded) -> RenderableType:
    """Render the result of adding each symbol."""
    table = plain_table("Added", ["symbol"], ["new", "ran", "failed"])
    table.add_column("", overflow="fold")
    for each in added.results:
        counts = (each.success_count, each.skipped_count, each.failed_count)
        table.add_row(each.symbol, *map(str, counts), Text(each.error or ""))
    return table


def removal_view(
    unmatched_before: Iterable[Pattern], outcome: SubscriptionOutcome
) -> RenderableType:
    """Render the outcome of a removal, or why it ends no stream."""
    if outcome.removed_streams or not (outcome.saved or outcome.dry_run):
        return outcome_view(outcome)
    would, is_out = ("would end", "would be") if outcome.dry_run else ("ends", "is")
    if gone := [str(each) for each in unmatched_before if each not in outcome.unmatched]:
        return Text(
            f"no stream {would}: {', '.join(gone)} {is_out} out of the set, and matched no symbol"
        )
    return (
        f"no stream {would}: the names are not in the set, match no symbol, or another entry of the"
        " set wants the same streams; see `klineagent list --set`"
    )


def outcome_view(outcome: SubscriptionOutcome) -> RenderableType:
    """Render what a change adds and removes, and what it costs."""
    forecast = outcome.forecast
    would = "would be " if outcome.dry_run else ""
    facts = {
        f"{would}added": _streams(outcome.added, outcome.added_streams),
        f"{would}removed": _streams(outcome.removed, outcome.removed_streams),
        "then wanted": (
            f"{counted(outcome.wanted, 'stream')} of {counted(outcome.symbols, 'symbol')}"
        ),
        "feeds": f"{forecast.feeds}, {forecast.new_feeds} of them new",
        "subscribing": f"{forecast.subscribe_seconds:g} s",
        "history": (
            f"up to {counted(forecast.history_candles, 'candle')},"
            f" weight {forecast.history_weight},"
            f" {forecast.history_minutes:.1f} min"
        ),
        "a day": f"{short(forecast.rows_per_day)} rows, {short(forecast.bytes_per_day)}B",
    }
    if outcome.unmatched:
        patterns = ", ".join(map(str, outcome.unmatched))
        facts["unmatched"] = f"{patterns}: {_NO_MATCH}"
    if not outcome.saved and not outcome.dry_run:
        facts["saved"] = "no: the change will not survive a restart"
    return _facts(facts)


def coverage_view(series: Sequence[SeriesCoverage], *, with_spans: bool) -> RenderableType:
    """Render a line per series; `with_spans` adds each missing or absent range, and the audit."""
    table = plain_table(
        "Coverage, times in UTC",
        ["symbol", "", "from"],
        ["stored", "missing", "absent", "healed"],
        ["last close", "lag"],
    )
    table.padding = (0, 0)  # wider, it would not fit
    for each in series:
        numbers = (each.stored, each.missing.candles, each.absent.candles, each.healed)
        table.add_row(
            each.symbol,
            each.interval,
            _moment(each.from_, each.interval)[:_TO_THE_MINUTE],
            *map(str, numbers),
            _moment(each.last_close, each.interval)[_BEHIND_THE_YEAR:_TO_THE_MINUTE],
            duration(each.lag_seconds) if each.lag_seconds else "",
        )
    spans = [text for each in series for text in _spans(each)] if with_spans else []
    return Group(table, *map(Text, spans))


def why_view(why: Why) -> RenderableType:
    """Render the explanation of one candle."""
    facts = {
        "candle": f"{why.symbol} {why.interval} {_moment(why.open_time, why.interval)} UTC",
        "state": why.state.replace("_", " "),
        "": why.explanation,
        "due": _second(why.due),
    }
    if (search := why.search) is not None:
        facts["how"] = search.how
        facts["tries"] = f"{search.tries}, next: {search.waits_for or 'soon'}"
        facts["error"] = search.error
    if (row := why.store.row) is not None:
        facts["row"] = (
            f"open {row.open:.8g} high {row.high:.8g} low {row.low:.8g} close {row.close:.8g}"
            f" volume {row.volume:.5g}, {row.trades} trades, event {_second(row.event_time)}"
        )
        facts["source"] = row.source
    if not why.store.answered:
        facts["database"] = why.store.error
    return _facts({name: text for name, text in facts.items() if text})


def _facts(facts: Mapping[str, str]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in facts.items():
        table.add_row(name, Text(text))
    return table


def _database_text(storage: Storage) -> str:
    counts = f"{short(storage.rows_stored)} rows stored, {storage.rows_waiting} on their way"
    if storage.rows_refused:
        counts += f", {storage.rows_refused} refused"
    return counts if storage.takes_rows else f"takes no rows: {storage.error}; {counts}"


def _spool_text(spool: SpoolState | None) -> str:
    if spool is None:
        return "none: rows the database cannot take wait in memory"
    used = f"{counted(spool.rows, 'row')} in {short(spool.bytes)}B of {short(spool.limit_bytes)}B"
    return f"{used}; it takes no more: {spool.error}" if spool.error else used


def audited_view(series: Sequence[SeriesCoverage]) -> RenderableType:
    """Render when the least recently audited series was compared with the database."""
    times = [each.audited for each in series if each.audited is not None]
    never = len(series) - len(times)
    since = f"compared with the database since {_second(min(times))}" if times else ""
    not_yet = f"{never} not compared yet" if never else ""
    return Text("; ".join(filter(None, (since, not_yet))))


def _spans(series: SeriesCoverage) -> Iterator[str]:
    name = f"{series.symbol} {series.interval}"
    if series.audited is not None:
        yield f"{name} compared with the database {_second(series.audited)}"
    for missing in series.missing.spans:
        error = f" ({missing.error})" if missing.error else ""
        when = _range(missing.from_, missing.to, series.interval)
        yield f"{name} missing {when}: {missing.how}{error}"
    for absent in series.absent.spans:
        when = _range(absent.from_, absent.to, series.interval)
        yield f"{name} absent {when}: {absent.reason}"


def _range(first: str, last: str, interval: str) -> str:
    begin, end = _moment(first, interval), _moment(last, interval)
    return begin if first == last else f"{begin} to {end}"


def _names(wanted: Wanted) -> str:
    if isinstance(wanted.symbols, list):
        return " ".join(wanted.symbols)
    return str(wanted.match) if wanted.match else ""


def _length_of(interval: str) -> int:
    """Return the rank of an interval by length; one that only a newer agent knows comes last."""
    return _BY_LENGTH.get(interval, len(_BY_LENGTH))


def _spaced(intervals: Iterable[str]) -> str:
    return intervals if isinstance(intervals, str) else " ".join(intervals)


def _streams(count: int, some: Sequence[str]) -> str:
    more = f" and {count - _SHOWN_STREAMS} more" if count > _SHOWN_STREAMS else ""
    return f"{count}: {', '.join(some[:_SHOWN_STREAMS])}{more}" if some else str(count)


def _moment(moment: str | None, interval: str) -> str:
    """Format an open or close time, as precisely as the interval needs."""
    clock = _CLOCKS.get(interval, " %H:%M")
    return "" if moment is None else f"{datetime.fromisoformat(moment):%Y-%m-%d{clock}}"


def _second(moment: str) -> str:
    return f"{datetime.fromisoformat(moment):%Y-%m-%d %H:%M:%S} UTC"
