"""What an agent knows to be missing or absent, as its next run has to know it. Pure.

    {"format": 1, "written_by": "0.2.0", "venue": "usdm", "store": "clickhouse://db/market",
     "accounted": [{"symbols": ["BTCUSDT", ...], "until": {"1m": 1769947200000, ...}}, ...],
     "incomplete": [{"symbol": "BTCUSDT", "interval": "1m",
                     "missing": [[1769900000000, 1769900060000, {"urgency": 1, ...}], ...],
                     "absent": [...]}, ...]}

Once written it is right for ever: what it calls neither missing nor absent was stored, and what
closed later the store is asked for, from `until` on. A newer one says more, so none is urgent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol, TypeVar

import msgspec
from attrs import evolve, frozen
from msgspec import Struct

from klineagent import __version__
from klineagent.errors import UNREADABLE
from klineagent.kline import Interval, Kline
from klineagent.series.ledger import Absence, Hole, Ledger, Missing, Urgency
from klineagent.series.spans import Span, Spans
from klineagent.storage.runs import Run

T = TypeVar("T")

FORMAT = 1

Series = tuple[str, Interval]
"""Symbol and interval."""


@frozen
class KnownGaps:
    """What was known of a series when it was written down."""

    until_ms: int
    """What opened before, as far back as it was accounted for, was stored durably, or is here."""
    gaps: tuple[Hole, ...] = ()
    absences: tuple[Span[Absence], ...] = ()

    def without(self, stored: Iterable[Run], interval: Interval) -> KnownGaps:
        """The same, but for candles that are `stored` by now."""
        gaps, absences = spans_of(self.gaps), spans_of(self.absences)
        for first_ms, last_ms in stored:
            gaps.clear(first_ms, interval.next_open(last_ms))
            absences.clear(first_ms, interval.next_open(last_ms))
        return evolve(self, gaps=tuple(gaps), absences=tuple(absences))


class Accounted(Protocol):
    """What is looked at of a `Subscription`."""

    symbol: str
    interval: Interval
    ledger: Ledger
    audited_ms: int | None


def known_gaps(series: Iterable[Accounted], at_risk: Iterable[Kline]) -> dict[Series, KnownGaps]:
    """What is known of those of `series` whose start is over.

    Rows `at_risk` have closed and are not durable yet: to the next run they are missing. They and
    the ledgers must be of one moment.
    """
    undurable: dict[Series, list[int]] = {}
    for kline in at_risk:
        undurable.setdefault((kline.symbol, Interval(kline.interval)), []).append(kline.open_time)
    found = {}
    for each in series:
        if each.audited_ms is None:
            continue
        name, ledger = (each.symbol, each.interval), each.ledger
        gaps = tuple(ledger.holes)
        if name in undurable:
            gaps = _with(gaps, undurable[name], ledger)
        found[name] = KnownGaps(ledger.horizon_ms, gaps, tuple(ledger.absences))
    return found


def _with(gaps: tuple[Hole, ...], opens: Iterable[int], ledger: Ledger) -> tuple[Hole, ...]:
    """`gaps`, and the candles at `opens` that count as closed."""
    spans = spans_of(gaps)
    for open_ms in opens:
        if open_ms < ledger.horizon_ms and ledger.has_closed(open_ms):
            end_ms = ledger.interval.next_open(open_ms)
            spans.mark(open_ms, end_ms, Missing(Urgency.RESTART))
    return tuple(spans)


def spans_of(marked: Iterable[Span[T]]) -> Spans[T]:
    """`marked` as spans that can be changed."""
    spans: Spans[T] = Spans()
    for each in marked:
        spans.mark(*each)
    return spans


class _Group(Struct, frozen=True):
    """Series that are accounted for up to the same times."""

    symbols: list[str]
    until: dict[Interval, int]


class _Incomplete(Struct, frozen=True):
    symbol: str
    interval: Interval
    missing: list[Hole]
    absent: list[Span[Absence]]


class _Format(Struct, frozen=True):
    """What the content of every version has."""

    format: int
    written_by: str


class _Saved(Struct, frozen=True, kw_only=True):
    format: int = FORMAT
    written_by: str = __version__
    venue: str
    store: str
    accounted: list[_Group]
    incomplete: list[_Incomplete]


def encode(known: Mapping[Series, KnownGaps], *, venue: str, store: str) -> bytes:
    """The content of the file."""
    until: dict[str, dict[Interval, int]] = {}
    incomplete = []
    for (symbol, interval), each in known.items():
        until.setdefault(symbol, {})[interval] = each.until_ms
        if each.gaps or each.absences:
            incomplete.append(_Incomplete(symbol, interval, [*each.gaps], [*each.absences]))
    groups: dict[tuple[tuple[Interval, int], ...], list[str]] = {}
    for symbol, times in until.items():
        groups.setdefault(tuple(times.items()), []).append(symbol)
    accounted = [_Group(symbols, dict(times)) for times, symbols in groups.items()]
    saved = _Saved(venue=venue, store=store, accounted=accounted, incomplete=incomplete)
    return msgspec.json.encode(saved)


def decode(content: bytes, *, venue: str, store: str) -> dict[Series, KnownGaps]:
    """What the content of a file says.

    Raises:
        ValueError: it is not what `encode` makes, or not of that venue and store.
    """
    try:
        written = msgspec.json.decode(content, type=_Format)
        if written.format != FORMAT:
            raise ValueError(
                f"klineagent {written.written_by} wrote it in format {written.format},"
                f" this version reads {FORMAT}"
            )
        saved = msgspec.json.decode(content, type=_Saved)
    except UNREADABLE as error:
        raise ValueError(f"it cannot be read: {error}") from error
    if (saved.venue, saved.store) != (venue, store):
        raise ValueError(f"it is about {saved.venue} in {saved.store}, not {venue} in {store}")
    known = {
        (symbol, interval): KnownGaps(until_ms)
        for group in saved.accounted
        for symbol in group.symbols
        for interval, until_ms in group.until.items()
    }
    for each in saved.incomplete:
        if (before := known.get((each.symbol, each.interval))) is not None:
            known[each.symbol, each.interval] = KnownGaps(
                before.until_ms, tuple(each.missing), tuple(each.absent)
            )
    return known
