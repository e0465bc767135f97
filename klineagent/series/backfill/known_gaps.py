"""Known gaps and absences as the gap file holds them for the next run. Pure.

    {"format": 2, "klineagent": "0.3.0", "store": "clickhouse://db/market", "venues": {"usdm": {
     "since": [{"symbols": ["BTCUSDT", ...], "times": {"1m": 1769860800000, ...}}, ...],
     "until": [{"symbols": ["BTCUSDT", ...], "times": {"1m": 1769947200000, ...}}, ...],
     "incomplete": [{"symbol": "BTCUSDT", "interval": "1m",
                     "missing": [[1769900000000, 1769900060000, {"urgency": 1, ...}], ...],
                     "absent": [...]}, ...],
     "is_whole": true}, "spot": {...}}}

Format 1 is of one venue, with `venue` and its fields at the top.

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
from klineagent.series.ledger import Ledger
from klineagent.series.marks import Absence, Gap, Missing, Urgency
from klineagent.series.spans import Span, Spans

T = TypeVar("T")

FORMAT = 2
_ONE_VENUE = 1

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
    """What a gap file says of one venue."""

    gaps: Mapping[Series, KnownGaps] = field(factory=dict)
    is_whole: bool = True
    """Whether these are all series that ever ran; False after an earlier file was unreadable."""

    def of(self, series: Series) -> KnownGaps | None:
        """Return what is known of a series; None if it never ran."""
        return self.gaps.get(series, None if self.is_whole else UNKNOWN)


@frozen
class GapsByVenue:
    """The content of a gap file."""

    venues: Mapping[str, SavedGaps] = field(factory=dict)
    """What is known by the venue's name."""
    is_whole: bool = True
    """Whether these are all venues that ever ran; see `SavedGaps`."""

    def of(self, venue: str) -> SavedGaps:
        """Return what is known of a venue."""
        return self.venues.get(venue, SavedGaps(is_whole=self.is_whole))


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
    They and the ledgers must be of one venue and one moment.
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


class _VenueGaps(Struct, frozen=True):
    since: list[_Group]
    until: list[_Group]
    incomplete: list[_Incomplete]
    is_whole: bool


class _GapFileContent(Head, frozen=True, kw_only=True):
    store: str
    venues: dict[str, _VenueGaps]
    is_whole: bool


class _OldHead(Struct, frozen=True):
    """The fields of format 1 beside those of `_VenueGaps`."""

    venue: str
    store: str


def encode(known: GapsByVenue, *, store: str) -> bytes:
    """Encode `known` as the content of a gap file."""
    saved = _GapFileContent(
        format=FORMAT,
        klineagent=__version__,
        store=store,
        venues={venue: _written(each) for venue, each in known.venues.items()},
        is_whole=known.is_whole,
    )
    return msgspec.json.encode(saved)


def _written(known: SavedGaps) -> _VenueGaps:
    return _VenueGaps(
        since=_grouped({series: each.since_ms for series, each in known.gaps.items()}),
        until=_grouped({series: each.until_ms for series, each in known.gaps.items()}),
        incomplete=[
            _Incomplete(*series, [*each.gaps], [*each.absences])
            for series, each in known.gaps.items()
            if each.gaps or each.absences
        ],
        is_whole=known.is_whole,
    )


def decode(content: bytes, *, store: str) -> GapsByVenue:
    """Decode the content of a gap file.

    Raises:
        StateUnreadable: a newer klineagent wrote it.
        ValueError: it is no gap file, or belongs to another store.
    """
    try:
        head = msgspec.json.decode(content, type=Head)
        if newer := head.newer_than(FORMAT):
            raise StateUnreadable(newer)
        if head.format == _ONE_VENUE:
            old = msgspec.json.decode(content, type=_OldHead)
            one = msgspec.json.decode(content, type=_VenueGaps)
            saved = _GapFileContent(
                format=FORMAT, store=old.store, venues={old.venue: one}, is_whole=True
            )
        else:
            saved = msgspec.json.decode(content, type=_GapFileContent)
        if saved.store != store:
            raise ValueError(f"it is about {saved.store}, not {store}")
        venues = {venue: _read(each) for venue, each in saved.venues.items()}
        return GapsByVenue(venues, saved.is_whole)
    except (*UNREADABLE, KeyError) as error:
        raise ValueError(f"it cannot be read: {error}") from error


def _read(saved: _VenueGaps) -> SavedGaps:
    since = _by_series(saved.since)
    known = {
        series: KnownGaps(since[series], until_ms)
        for series, until_ms in _by_series(saved.until).items()
    }
    for each in saved.incomplete:
        series = (each.symbol, each.interval)
        gaps, absences = tuple(each.missing), tuple(each.absent)
        known[series] = evolve(known[series], gaps=gaps, absences=absences)
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
