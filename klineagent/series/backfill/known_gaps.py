"""Known gaps and absences as the gap file holds them for the next run. Pure.

    {"format": 1, "klineagent": "0.2.0", "venue": "usdm", "store": "clickhouse://db/market",
     "since": [{"symbols": ["BTCUSDT", ...], "times": {"1m": 1769860800000, ...}}, ...],
     "until": [{"symbols": ["BTCUSDT", ...], "times": {"1m": 1769947200000, ...}}, ...],
     "incomplete": [{"symbol": "BTCUSDT", "interval": "1m",
                     "missing": [[1769900000000, 1769900060000, {"urgency": 1, ...}], ...],
                     "absent": [...]}, ...],
     "is_whole": true}

A gap file never becomes wrong, so no save is urgent: from `since` on, candles that it calls neither
missing nor absent were stored; candles from `until` on are looked up in the store at the next
start. A newer file only says more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol, TypeVar

import msgspec
from attrs import evolve, field, frozen
from msgspec import Struct

from klineagent import __version__
from klineagent.core.errors import UNREADABLE, StateUnreadable
from klineagent.core.interval import Interval, Run
from klineagent.core.kline import Kline
from klineagent.series.desired.state_file import Head
from klineagent.series.ledger import Absence, Gap, Ledger, Missing, Urgency
from klineagent.series.spans import Span, Spans

T = TypeVar("T")

FORMAT = 1

Series = tuple[str, Interval]
"""Symbol and interval."""


@frozen
class KnownGaps:
    """The gaps and absences of one series when they were saved."""

    since_ms: int
    """The oldest open time that the ledger covered."""
    until_ms: int
    """Candles since `since_ms` and before this were stored durably, or are listed here."""
    gaps: tuple[Gap, ...] = ()
    absences: tuple[Span[Absence], ...] = ()

    def without(self, stored: Iterable[Run], interval: Interval) -> KnownGaps:
        """Return the same without candles that are `stored` by now."""
        gaps, absences = spans_of(self.gaps), spans_of(self.absences)
        for first_ms, last_ms in stored:
            gaps.clear(first_ms, interval.next_open(last_ms))
            absences.clear(first_ms, interval.next_open(last_ms))
        return evolve(self, gaps=tuple(gaps), absences=tuple(absences))


UNKNOWN = KnownGaps(since_ms=2**62, until_ms=0)
"""The known gaps of a series that may have run but was not saved: all of it must be looked up."""


@frozen
class SavedGaps:
    """The content of a gap file."""

    gaps: Mapping[Series, KnownGaps] = field(factory=dict)
    is_whole: bool = True
    """Whether these are all series that ever ran; False after an earlier file was unreadable."""

    def of(self, series: Series) -> KnownGaps | None:
        """Return what is known of a series; None if it never ran."""
        return self.gaps.get(series, None if self.is_whole else UNKNOWN)


class TrackedSeries(Protocol):
    """The part of a `Subscription` that the gap file needs."""

    symbol: str
    interval: Interval
    ledger: Ledger
    audited_ms: int | None


def known_gaps(
    series: Iterable[TrackedSeries], at_risk: Iterable[Kline]
) -> dict[Series, KnownGaps]:
    """Return the known gaps of those `series` whose startup scan is done.

    Rows `at_risk` are closed candles that are not durable yet: to the next run they are missing.
    They and the ledgers must be of one moment.
    """
    undurable: dict[Series, dict[int, int]] = {}
    for kline in at_risk:
        interval = Interval(kline.interval)
        ranks = undurable.setdefault((kline.symbol, interval), {})
        slot_ms = interval.open_at(kline.open_time)
        ranks[slot_ms] = max(kline.rank_to_exceed, ranks.get(slot_ms, 0))
    return {
        (each.symbol, each.interval): _known(
            each.ledger, undurable.get((each.symbol, each.interval), {})
        )
        for each in series
        if each.audited_ms is not None
    }


def _known(ledger: Ledger, undurable: Mapping[int, int]) -> KnownGaps:
    """Return the known gaps of `ledger`, with rows that are not durable as gaps.

    `undurable` maps their open times to the versions that fetched rows must exceed.
    """
    gaps, absences = spans_of(ledger.gaps), spans_of(ledger.absences)
    for open_ms, rank in undurable.items():
        if open_ms < ledger.horizon_ms and ledger.was_handed_on(open_ms):
            end_ms = ledger.interval.next_open(open_ms)
            gaps.mark(open_ms, end_ms, Missing(Urgency.RESTART, above_version=rank))
            absences.clear(open_ms, end_ms)
    return KnownGaps(ledger.first_ms, ledger.horizon_ms, tuple(gaps), tuple(absences))


def spans_of(marked: Iterable[Span[T]]) -> Spans[T]:
    """Copy `marked` into mutable spans."""
    spans: Spans[T] = Spans()
    for each in marked:
        spans.mark(*each)
    return spans


class _Group(Struct, frozen=True):
    """Series with equal times."""

    symbols: list[str]
    times: dict[Interval, int]


class _Incomplete(Struct, frozen=True):
    symbol: str
    interval: Interval
    missing: list[Gap]
    absent: list[Span[Absence]]


class _GapFileContent(Head, frozen=True, kw_only=True):
    venue: str
    store: str
    since: list[_Group]
    until: list[_Group]
    incomplete: list[_Incomplete]
    is_whole: bool


def encode(known: SavedGaps, *, venue: str, store: str) -> bytes:
    """Encode `known` as the content of a gap file."""
    saved = _GapFileContent(
        format=FORMAT,
        klineagent=__version__,
        venue=venue,
        store=store,
        since=_grouped({series: each.since_ms for series, each in known.gaps.items()}),
        until=_grouped({series: each.until_ms for series, each in known.gaps.items()}),
        incomplete=[
            _Incomplete(*series, [*each.gaps], [*each.absences])
            for series, each in known.gaps.items()
            if each.gaps or each.absences
        ],
        is_whole=known.is_whole,
    )
    return msgspec.json.encode(saved)


def decode(content: bytes, *, venue: str, store: str) -> SavedGaps:
    """Decode the content of a gap file.

    Raises:
        StateUnreadable: a newer klineagent wrote it.
        ValueError: it is no gap file, or belongs to another venue or store.
    """
    try:
        if newer := msgspec.json.decode(content, type=Head).newer_than(FORMAT):
            raise StateUnreadable(newer)
        saved = msgspec.json.decode(content, type=_GapFileContent)
        if (saved.venue, saved.store) != (venue, store):
            raise ValueError(f"it is about {saved.venue} in {saved.store}, not {venue} in {store}")
        since = _by_series(saved.since)
        known = {
            series: KnownGaps(since[series], until_ms)
            for series, until_ms in _by_series(saved.until).items()
        }
        for each in saved.incomplete:
            series = (each.symbol, each.interval)
            gaps, absences = tuple(each.missing), tuple(each.absent)
            known[series] = evolve(known[series], gaps=gaps, absences=absences)
    except (*UNREADABLE, KeyError) as error:
        raise ValueError(f"it cannot be read: {error}") from error
    return SavedGaps(known, saved.is_whole)


def _grouped(times: Mapping[Series, int]) -> list[_Group]:
    """Group series by equal times: nearly all series of a market share theirs."""
    by_symbol: dict[str, dict[Interval, int]] = {}
    for (symbol, interval), time_ms in times.items():
        by_symbol.setdefault(symbol, {})[interval] = time_ms
    groups: dict[tuple[tuple[Interval, int], ...], list[str]] = {}
    for symbol, mine in by_symbol.items():
        groups.setdefault(tuple(mine.items()), []).append(symbol)
    return [_Group(symbols, dict(mine)) for mine, symbols in groups.items()]


def _by_series(groups: Iterable[_Group]) -> dict[Series, int]:
    return {
        (symbol, interval): time_ms
        for group in groups
        for symbol in group.symbols
        for interval, time_ms in group.times.items()
    }
