"""The wire format of selections, in requests, answers and the state file. Pure."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Literal

from attrs import evolve, field, frozen
from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec import field as struct_field
from msgspec.structs import replace

from klineagent.core.errors import InvalidRequest
from klineagent.core.interval import Interval
from klineagent.exchange.venues import Venue, full_name, symbol_named
from klineagent.series.desired.selection import (
    NONE,
    Intervals,
    Listings,
    Match,
    Selection,
    SeriesSet,
)

LONGEST_NAME = 100
"""The longest pattern, in characters; symbols have up to 17."""

Names = Annotated[
    list[str], Meta(description="Symbols; case and blanks around them do not matter.")
]
IntervalsWritten = Annotated[
    list[str] | Literal["all"],
    Meta(description='Intervals, or "all" of the venue.', examples=[["1m", "1h"], "all"]),
]
_Glob = Annotated[str, Meta(max_length=LONGEST_NAME, examples=["*USDT"])]
_ONE_OF = re.compile(r"\[!?[^][!][^][]*\]")
"""`[ab]` for a or b, `[!ab]` for any other character."""


class Pattern(Struct, frozen=True, forbid_unknown_fields=True):
    """A pattern of symbols; it follows listings and delistings.

    It has a name, a quote asset or a contract; the name `*` stands for the whole market.
    """

    name: (
        Annotated[
            _Glob,
            Meta(description="`*` stands for any characters, `?` for one, `[ab]` for a or b."),
        ]
        | UnsetType
    ) = UNSET
    quote: Annotated[
        str, Meta(description="The quote asset; empty for any.", examples=["USDT"])
    ] = ""
    contract: Annotated[
        str,
        Meta(
            description="The contract type, on futures; empty for any.",
            examples=["PERPETUAL", "TRADIFI_PERPETUAL", "CURRENT_QUARTER"],
        ),
    ] = ""
    exclude: Annotated[
        list[_Glob], Meta(description="Names that do not match, written like `name`.")
    ] = []

    def __str__(self) -> str:
        without = f" but {' '.join(self.exclude)}" if self.exclude else ""
        return " ".join(filter(None, (self.name or "*", self.quote, self.contract))) + without


_VenueOf = (
    Annotated[
        str,
        Meta(
            description="The venue of names that do not name theirs, like `spot:BTCUSDT`; without"
            " it, the default one.",
        ),
    ]
    | UnsetType
)


class Wanted(Struct, frozen=True, forbid_unknown_fields=True):
    """Symbols, or a pattern of symbols, at intervals; either `symbols` or `match` is set."""

    intervals: IntervalsWritten
    symbols: Names | UnsetType = UNSET
    match: Pattern | UnsetType = UNSET
    origin: (
        Annotated[
            Literal["configuration", "http"],
            Meta(
                description="The entry's origin. Entries of the configuration are wanted in any"
                " case; in a PUT they are ignored."
            ),
        ]
        | UnsetType
    ) = struct_field(default=UNSET, name="from")
    venue: _VenueOf = UNSET


class Excluded(Struct, frozen=True, forbid_unknown_fields=True):
    """Symbols that are not wanted at these intervals, even if they are named or match."""

    symbols: Names
    intervals: IntervalsWritten
    venue: _VenueOf = UNSET


class SubscriptionSet(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole desired set: wanted series, and exceptions."""

    subscriptions: list[Wanted]
    exclude: list[Excluded] = []


Entries = Iterable[tuple[str, Wanted | Excluded]]
"""Entries, each with the place where it is written."""


def placed(written: Sequence[Wanted | Excluded], name: str) -> Entries:
    """Return the entries of the list called `name`, except those of the configuration."""
    return [
        (f"{name}[{at}]", each)
        for at, each in enumerate(written)
        if isinstance(each, Excluded) or each.origin != "configuration"
    ]


@frozen
class _Entry:
    """The part of an entry that is about one venue."""

    where: str
    intervals: IntervalsWritten
    symbols: Sequence[tuple[str, str]] = ()
    """Symbols without their venue, each with its place."""
    match: Pattern | None = None
    """The pattern, its names without their venue."""


def by_venue(entries: Entries, default: Venue) -> dict[Venue, list[_Entry]]:
    """Part entries by the venues that they name; names without one are those of `default`.

    Raises:
        InvalidRequest: an entry has no symbols and no match, or both, or a venue does not exist.
    """
    parted: defaultdict[Venue, list[_Entry]] = defaultdict(list)
    for where, each in entries:
        beside, match = each.venue or "", each.match if isinstance(each, Wanted) else UNSET
        if isinstance(each.symbols, list) and match is UNSET:
            if not each.symbols:
                raise InvalidRequest(f"{where}.symbols: the list is empty")
            symbols: defaultdict[Venue, list[tuple[str, str]]] = defaultdict(list)
            for at, name in enumerate(each.symbols):
                place = f"{where}.symbols[{at}]"
                venue, symbol = symbol_named(name, default, beside=beside, field=place)
                symbols[venue].append((place, symbol))
            for venue, some in symbols.items():
                parted[venue].append(_Entry(where, each.intervals, some))
        elif isinstance(match, Pattern) and each.symbols is UNSET:
            name = "*" if match.name is UNSET else match.name
            venue, glob = symbol_named(name, default, beside=beside, field=f"{where}.match.name")
            exclude = [
                symbol_named(name, venue, beside=venue.name, field=f"{where}.match.exclude[{at}]")[
                    1
                ]
                for at, name in enumerate(match.exclude)
            ]
            bare = replace(match, name=match.name if match.name is UNSET else glob, exclude=exclude)
            parted[venue].append(_Entry(where, each.intervals, match=bare))
        else:
            raise InvalidRequest(f"{where}: expected symbols or match, and not both")
    return parted


@frozen(kw_only=True)
class SetReader:
    """Reads selections of `venue` from the wire format and checks them against what it offers.

    It skips what is written of other venues. Its methods raise `InvalidRequest`, which names the
    field. Symbols are checked against `listings`, if these are known; those in the `present`
    selection are accepted in any case.
    """

    venue: Venue
    default: Venue = field()
    """The venue of names that do not name theirs."""
    listings: Listings | None = None
    present: Selection = field(factory=Selection)
    all_intervals: Intervals = field()
    """The intervals that "all" stands for in what is wanted; in exceptions it is all there are."""

    @default.default
    def _same_venue(self) -> Venue:
        return self.venue

    @all_intervals.default
    def _usual_intervals(self) -> Intervals:
        return self.venue.usual_intervals

    def selection(self, written: SubscriptionSet) -> Selection:
        """Read a whole set, except the entries that come from the configuration."""
        excluded: dict[str, Intervals] = {}
        for each in self._entries(placed(written.exclude, "exclude")):
            self._name(each, excluded, self.venue.intervals)
        return evolve(self.wanted(written.subscriptions, "subscriptions"), excluded=excluded)

    def wanted(self, written: Sequence[Wanted], name: str) -> Selection:
        """Read the list called `name`."""
        named: dict[str, Intervals] = {}
        matched: dict[Match, Intervals] = {}
        for each in self._entries(placed(written, name)):
            if each.match is None:
                self._name(each, named, self.all_intervals)
            else:
                intervals = self._intervals(each, self.all_intervals)
                match = self._match(each.match, f"{each.where}.match")
                matched[match] = matched.get(match, NONE) | intervals
        return Selection(named=named, matched=matched)

    def _entries(self, entries: Entries) -> Sequence[_Entry]:
        return by_venue(entries, self.default).get(self.venue, [])

    def _name(self, entry: _Entry, series: dict[str, Intervals], every: Intervals) -> None:
        """Add the named symbols of `entry` to `series`; "all" stands for `every` interval."""
        intervals = self._intervals(entry, every)
        for where, symbol in entry.symbols:
            self._check_symbol(symbol, where)
            series[symbol] = series.get(symbol, NONE) | intervals

    def _check_symbol(self, symbol: str, where: str) -> None:
        places = (self.listings, self.present.named, self.present.excluded)
        if self.listings is not None and not any(symbol in place for place in places if place):
            raise InvalidRequest(f"{where}: {symbol} does not exist on {self.venue.name}")

    def _match(self, written: Pattern, where: str) -> Match:
        if written.name is UNSET and not (written.quote.strip() or written.contract.strip()):
            raise InvalidRequest(
                f"{where}: it has no name, quote or contract;"
                ' for the whole market write {"name": "*"}'
            )
        match = Match(
            name=written.name or "*",
            quote=written.quote.strip().upper(),
            contract=written.contract.strip().upper(),
            exclude=written.exclude,
        )
        if self.listings is not None and match not in self.present.matched:
            check_brackets(match.name, f"{where}.name")
            for at, name in enumerate(written.exclude):
                check_brackets(name, f"{where}.exclude[{at}]")
            listed = self.listings.values()
            self._check(match.quote, (each.quote for each in listed), f"{where}.quote")
            self._check(match.contract, (each.contract for each in listed), f"{where}.contract")
        return match

    def _check(self, name: str, offered: Iterable[str], where: str) -> None:
        if name and name not in (there := set(offered)):
            there_are = ", ".join(sorted(filter(None, there))) or "none"
            raise InvalidRequest(
                f"{where}: {name} does not exist on {self.venue.name}; there are {there_are}"
            )

    def _intervals(self, entry: _Entry, every: Intervals) -> Intervals:
        written, where = entry.intervals, f"{entry.where}.intervals"
        if written == "all":
            return every
        if not written:
            raise InvalidRequest(f"{where}: the list is empty")
        offered = {each.value: each for each in Interval if each in self.venue.intervals}
        for at, name in enumerate(written):
            if name.strip() not in offered:
                raise InvalidRequest(
                    f"{where}[{at}]: {name!r} does not exist on {self.venue.name};"
                    f" use some of {', '.join(offered)}, or all"
                )
        return frozenset(offered[name.strip()] for name in written)


def check_brackets(glob: str, where: str) -> None:
    """Refuse brackets that fnmatch would take literally: no symbol has brackets or `^`."""
    if "[^" in glob:
        raise InvalidRequest(f"{where}: {glob.strip()!r}: write [!ab] for neither a nor b")
    left = _ONE_OF.sub("", glob)
    if "[" in left or "]" in left:
        raise InvalidRequest(
            f"{where}: {glob.strip()!r} has an unpaired or empty bracket; write [ab] for a or b"
        )


def pattern_of(match: Match, venue: Venue | None = None, default: Venue | None = None) -> Pattern:
    """Write `match` as a pattern; with the name of `venue`, if that is not `default`."""
    name = match.name if venue is None or default is None else full_name(venue, match.name, default)
    return Pattern(
        name=name, quote=match.quote, contract=match.contract, exclude=list(match.exclude)
    )


def write(selection: Selection, venue: Venue, default: Venue | None = None) -> SubscriptionSet:
    """Write `selection`; symbols at the same intervals share an entry.

    Names have the name of `venue`, and entries have it beside them, if it is not `default`.
    """
    default = default or venue
    usual = venue.usual_intervals
    beside = UNSET if venue == default else venue.name
    return SubscriptionSet(
        subscriptions=[
            *(
                Wanted(symbols=symbols, intervals=intervals, venue=beside)
                for intervals, symbols in _together(selection.named, usual, venue, default)
            ),
            *(
                Wanted(
                    match=pattern_of(match, venue, default),
                    intervals=_written(intervals, usual),
                    venue=beside,
                )
                for match, intervals in selection.matched.items()
            ),
        ],
        exclude=[
            Excluded(symbols=symbols, intervals=intervals, venue=beside)
            for intervals, symbols in _together(selection.excluded, venue.intervals, venue, default)
        ],
    )


def _together(
    series: SeriesSet, every: Intervals, venue: Venue, default: Venue
) -> Iterator[tuple[IntervalsWritten, list[str]]]:
    """Yield the symbols at the same intervals, as they are written."""
    together: dict[Intervals, list[str]] = {}
    for symbol, intervals in series.items():
        together.setdefault(intervals, []).append(full_name(venue, symbol, default))
    return ((_written(intervals, every), symbols) for intervals, symbols in together.items())


def _written(intervals: Intervals, every: Intervals) -> IntervalsWritten:
    if intervals == every:
        return "all"
    return [each.value for each in Interval if each in intervals]
