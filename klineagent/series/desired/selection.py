"""Which series are wanted: those that are named or match a pattern, but what is excluded. Pure.

A selection says what somebody wants; with the exchange's listings it resolves to symbols at
intervals. Selections that are written differently and want the same by the same means are equal.
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
"""Series by symbol: each at some intervals, at least one."""
Listings = Mapping[str, SymbolInfo]

NONE: Intervals = frozenset()


def joined(one: SeriesSet, other: SeriesSet) -> SeriesSet:
    """What is in either."""
    return {**one, **{symbol: one.get(symbol, NONE) | more for symbol, more in other.items()}}


def less(one: SeriesSet, other: SeriesSet) -> SeriesSet:
    """What is in `one` and not in `other`."""
    left = {symbol: intervals - other.get(symbol, NONE) for symbol, intervals in one.items()}
    return {symbol: intervals for symbol, intervals in left.items() if intervals}


def count(series: SeriesSet) -> int:
    """How many (symbol, interval) there are."""
    return sum(map(len, series.values()))


def in_order(series: SeriesSet) -> Iterator[tuple[str, Interval]]:
    """Each (symbol, interval); of a symbol the shortest interval first."""
    for symbol, intervals in series.items():
        yield from zip(repeat(symbol), _by_length(intervals), strict=False)


@lru_cache(maxsize=256)
def _by_length(intervals: Intervals) -> tuple[Interval, ...]:
    """The shortest first; kept, because nearly all symbols have the same."""
    return tuple(interval for interval in Interval if interval in intervals)


def _sorted(names: Collection[str]) -> tuple[str, ...]:
    return tuple(sorted(set(names)))


@frozen(kw_only=True)
class Match:
    """A pattern of symbols; what is empty does not restrict it.

    Names are globs: `*` stands for any characters, `?` for one, `[ab]` for one of these.
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
        # Where no name is excluded, what matches nothing.
        return re.compile("|".join(map(translate, self.exclude)) or r"(?!)").match

    def fits(self, info: SymbolInfo) -> bool:
        """Whether it matches a symbol, traded or not."""
        return bool(
            (not self.quote or self.quote == info.quote)
            and (not self.contract or self.contract == info.contract)
            and self._is_named(info.symbol)
            and not self._is_excluded(info.symbol)
        )


@frozen(kw_only=True)
class Selection:
    """What is wanted. Where others say `listings`, None means that they are not known yet."""

    named: SeriesSet = field(factory=dict)
    matched: Mapping[Match, Intervals] = field(factory=dict)
    excluded: SeriesSet = field(factory=dict)
    """Exceptions from both."""

    def fitting(self, symbol: str, info: SymbolInfo | None) -> Intervals:
        """The intervals of `symbol` that are wanted as long as the venue lists it."""
        intervals = self.named.get(symbol, NONE)
        if info is not None:
            for match, more in self.matched.items():
                if not more <= intervals and match.fits(info):
                    intervals |= more
        return intervals - self.excluded.get(symbol, NONE)

    def adding(self, more: Selection, listings: Listings | None) -> Selection:
        """The selection that wants what `more` wants as well, whatever was excluded before."""
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
        """The selection that does not want the series `gone` names, nor its patterns.

        Patterns go as they are written; what others want of their symbols stays. A series that a
        pattern wants, or that is `always` wanted, becomes an exception.
        """
        left = {
            match: intervals - gone.matched.get(match, NONE)
            for match, intervals in self.matched.items()
        }
        rest = Selection(
            named=less(self.named, gone.named),
            matched={match: intervals for match, intervals in left.items() if intervals},
            excluded=self.excluded,
        )
        wanted = rest.naming(always or {})
        known = listings or {}
        exceptions = {
            symbol: exception
            for symbol, intervals in gone.named.items()
            if (exception := wanted.fitting(symbol, known.get(symbol)) & intervals)
        }
        return evolve(rest, excluded=joined(rest.excluded, exceptions))

    def naming(self, series: SeriesSet) -> Selection:
        """The selection that names `series` as well; exceptions stay."""
        return evolve(self, named=joined(self.named, series))

    def permitting(self, series: SeriesSet) -> Selection:
        """The selection without exceptions for `series`."""
        return evolve(self, excluded=less(self.excluded, series))


@frozen(kw_only=True)
class Resolution:
    """What a selection comes to."""

    wanted: SeriesSet = field(factory=dict)
    refused: Mapping[str, str] = field(factory=dict)
    """Symbols that are named and cannot be had, each with its reason."""
    unmatched: tuple[Match, ...] = ()
    """Patterns that match nothing of what is listed now; they may match later."""


def resolve(selection: Selection, listings: Listings | None, *, venue_name: str) -> Resolution:
    """What `selection` wants of `listings`.

    What is named is wanted whether it trades or not, and before listings are known; what matches,
    as long as it is listed.
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
    claims: Sequence[Collection[str]],
) -> Resolution:
    """`resolution` with `most` symbols at the most, the others refused.

    The places go to symbols in the first of `claims`, then to those in the next, and at last to
    what was listed before others.
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
        symbol: f"{symbol} would be one more than the {most} symbols allowed"
        for symbol in by_rank[most:]
    }
    return evolve(
        resolution,
        wanted={symbol: each for symbol, each in resolution.wanted.items() if symbol in placed},
        refused={**resolution.refused, **too_many},
    )
