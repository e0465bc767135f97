"""Selections of series: named symbols and patterns, except what is excluded. Pure.

With the exchange's listings a selection resolves to symbols at intervals. Selections are equal if
they have the same names, patterns and exceptions, however they are written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from fnmatch import translate
from functools import lru_cache
from itertools import repeat

from attrs import evolve, field, frozen

from klineagent.core.interval import Interval
from klineagent.exchange.rest_answers import SymbolInfo

Intervals = frozenset[Interval]
SeriesSet = Mapping[str, Intervals]
"""Series by symbol, each at one or more intervals."""
Listings = Mapping[str, SymbolInfo]

NONE: Intervals = frozenset()


def joined(one: SeriesSet, other: SeriesSet) -> SeriesSet:
    """Return the series that are in either set."""
    return {**one, **{symbol: one.get(symbol, NONE) | more for symbol, more in other.items()}}


def less(one: SeriesSet, other: SeriesSet) -> SeriesSet:
    """Return the series that are in `one` and not in `other`."""
    left = {symbol: intervals - other.get(symbol, NONE) for symbol, intervals in one.items()}
    return {symbol: intervals for symbol, intervals in left.items() if intervals}


def count(series: SeriesSet) -> int:
    """Count the series."""
    return sum(map(len, series.values()))


def in_order(series: SeriesSet) -> Iterator[tuple[str, Interval]]:
    """Yield each (symbol, interval), the intervals of a symbol by length."""
    for symbol, intervals in series.items():
        yield from zip(repeat(symbol), _by_length(intervals), strict=False)


@lru_cache(maxsize=256)
def _by_length(intervals: Intervals) -> tuple[Interval, ...]:
    """Sort intervals by length; cached, because nearly all symbols have the same."""
    return tuple(interval for interval in Interval if interval in intervals)


def _sorted(names: Collection[str]) -> tuple[str, ...]:
    return tuple(sorted(set(names)))


@frozen(kw_only=True)
class Match:
    """A pattern of symbols; an empty field does not restrict it.

    Names are globs: `*` stands for any characters, `?` for one, `[ab]` for a or b.
    """

    name: str = "*"
    quote: str = ""
    contract: str = ""
    exclude: tuple[str, ...] = field(default=(), converter=_sorted)
    _is_named: Callable[[str], object] = field(init=False, repr=False, eq=False)
    _is_excluded: Callable[[str], object] = field(init=False, repr=False, eq=False)

    @_is_named.default
    def _compiled_name(self) -> Callable[[str], object]:
        return re.compile(translate(self.name)).match

    @_is_excluded.default
    def _compiled_exclude(self) -> Callable[[str], object]:
        # Without excluded names, a pattern that matches nothing.
        return re.compile("|".join(map(translate, self.exclude)) or r"(?!)").match

    def fits(self, info: SymbolInfo) -> bool:
        """Whether the pattern matches a symbol, trading or not."""
        return bool(
            (not self.quote or self.quote == info.quote)
            and (not self.contract or self.contract == info.contract)
            and self._is_named(info.symbol)
            and not self._is_excluded(info.symbol)
        )


@frozen(kw_only=True)
class Selection:
    """A selection of series. Its methods take None for `listings` that are not known yet."""

    named: SeriesSet = field(factory=dict)
    matched: Mapping[Match, Intervals] = field(factory=dict)
    excluded: SeriesSet = field(factory=dict)
    """Exceptions from `named` and `matched`."""

    def fitting(self, symbol: str, info: SymbolInfo | None) -> Intervals:
        """Return the intervals of `symbol` that are wanted as long as the venue lists it."""
        intervals = self.named.get(symbol, NONE)
        if info is not None:
            for match, more in self.matched.items():
                if not more <= intervals and match.fits(info):
                    intervals |= more
        return intervals - self.excluded.get(symbol, NONE)

    def adding(self, more: Selection, listings: Listings | None) -> Selection:
        """Return the selection that also wants what `more` wants, even if it was excluded."""
        known = listings or {}
        pardoned = {symbol: more.fitting(symbol, known.get(symbol)) for symbol in self.excluded}
        matched = dict(self.matched)
        for match, intervals in more.matched.items():
            matched[match] = matched.get(match, NONE) | intervals
        return Selection(
            named=joined(self.named, more.named),
            matched=matched,
            excluded=joined(less(self.excluded, pardoned), more.excluded),
        )

    def removing(
        self, gone: Selection, listings: Listings | None, *, always: SeriesSet | None = None
    ) -> Selection:
        """Return the selection without the series that `gone` names, and without its patterns.

        A pattern is removed only if it is equal; series that others want of its symbols stay. A
        named series that a pattern wants, or that is `always` wanted, becomes an exception.
        """
        left = {
            match: intervals - gone.matched.get(match, NONE)
            for match, intervals in self.matched.items()
        }
        kept = Selection(
            named=less(self.named, gone.named),
            matched={match: intervals for match, intervals in left.items() if intervals},
            excluded=self.excluded,
        )
        wanted = kept.naming(always or {})
        known = listings or {}
        exceptions = {
            symbol: exception
            for symbol, intervals in gone.named.items()
            if (exception := wanted.fitting(symbol, known.get(symbol)) & intervals)
        }
        return evolve(kept, excluded=joined(kept.excluded, exceptions))

    def naming(self, series: SeriesSet) -> Selection:
        """Return the selection that also names `series`; exceptions stay."""
        return evolve(self, named=joined(self.named, series))

    def permitting(self, series: SeriesSet) -> Selection:
        """Return the selection without exceptions for `series`."""
        return evolve(self, excluded=less(self.excluded, series))


@frozen(kw_only=True)
class Resolution:
    """The series to which a selection resolves."""

    wanted: SeriesSet = field(factory=dict)
    refused: Mapping[str, str] = field(factory=dict)
    """Named symbols that cannot run, each with the reason."""
    unmatched: tuple[Match, ...] = ()
    """Patterns that match no listed symbol now; they may match later."""


def resolve(selection: Selection, listings: Listings | None, *, venue_name: str) -> Resolution:
    """Resolve `selection` with `listings`.

    Named symbols are wanted whether they trade or not, and before listings are known; symbols that
    match a pattern are wanted as long as they are listed.
    """
    listed = {symbol: info for symbol, info in (listings or {}).items() if info.is_listed}
    asked, unmatched = dict(selection.named), []
    for match, intervals in selection.matched.items():
        fitting = [symbol for symbol, info in listed.items() if match.fits(info)]
        for symbol in fitting:
            asked[symbol] = asked.get(symbol, NONE) | intervals
        if not fitting and listings is not None:
            unmatched.append(match)
    wanted = {
        symbol: left
        for symbol, each in asked.items()
        if (left := each - selection.excluded.get(symbol, NONE))
    }
    refused = {
        symbol: f"{symbol} does not exist on {venue_name}"
        for symbol in wanted
        if listings is not None and symbol not in listings
    }
    wanted = {symbol: each for symbol, each in wanted.items() if symbol not in refused}
    return Resolution(wanted=wanted, refused=refused, unmatched=tuple(unmatched))


def limited(
    resolution: Resolution,
    listings: Listings | None,
    *,
    most: int,
    allowed: int,
    claims: Sequence[Collection[str]],
) -> Resolution:
    """Limit `resolution` to `most` symbols and refuse the others, for `allowed` are allowed in all.

    Places go to symbols in the first of `claims`, then to those in the next, and so on; then to the
    symbols listed earliest.
    """
    if len(resolution.wanted) <= most:
        return resolution
    known = listings or {}

    def rank(symbol: str) -> tuple[int, int, str]:
        claim = next((at for at, each in enumerate(claims) if symbol in each), len(claims))
        return (claim, known[symbol].onboard_ms if symbol in known else 0, symbol)

    by_rank = sorted(resolution.wanted, key=rank)
    placed = set(by_rank[:most])
    too_many = {
        symbol: f"{symbol} would be one more than the {allowed} symbols allowed"
        for symbol in by_rank[most:]
    }
    return evolve(
        resolution,
        wanted={symbol: each for symbol, each in resolution.wanted.items() if symbol in placed},
        refused={**resolution.refused, **too_many},
    )
