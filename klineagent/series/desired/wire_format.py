"""The wire format of selections, in requests, answers and the state file. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

from attrs import evolve, field, frozen
from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec import field as struct_field

from klineagent.core.errors import InvalidRequest
from klineagent.core.interval import Interval
from klineagent.exchange.venues import Venue
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


class Excluded(Struct, frozen=True, forbid_unknown_fields=True):
    """Symbols that are not wanted at these intervals, even if they are named or match."""

    symbols: Names
    intervals: IntervalsWritten


class SubscriptionSet(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole desired set: wanted series, and exceptions."""

    subscriptions: list[Wanted]
    exclude: list[Excluded] = []


@frozen(kw_only=True)
class SetReader:
    """Reads selections from the wire format and checks them against what `venue` offers.

    Its methods raise `InvalidRequest`, which names the field. Symbols are checked against
    `listings`, if these are known; those in the `present` selection are accepted in any case.
    """

    venue: Venue
    listings: Listings | None = None
    present: Selection = field(factory=Selection)
    all_intervals: Intervals = field()
    """The intervals that "all" stands for."""

    @all_intervals.default
    def _usual_intervals(self) -> Intervals:
        return self.venue.usual_intervals

    def selection(self, written: SubscriptionSet) -> Selection:
        """Read a whole set, except the entries that come from the configuration."""
        ours = [
            (f"subscriptions[{at}]", each)
            for at, each in enumerate(written.subscriptions)
            if each.origin != "configuration"
        ]
        excluded: dict[str, Intervals] = {}
        for at, each in enumerate(written.exclude):
            intervals = self._intervals(each.intervals, f"exclude[{at}].intervals")
            for symbol in self._symbols(each.symbols, f"exclude[{at}]"):
                excluded[symbol] = excluded.get(symbol, NONE) | intervals
        return evolve(self._wanted(ours), excluded=excluded)

    def wanted(self, written: Sequence[Wanted], name: str) -> Selection:
        """Read the list called `name`."""
        return self._wanted((f"{name}[{at}]", each) for at, each in enumerate(written))

    def _wanted(self, written: Iterable[tuple[str, Wanted]]) -> Selection:
        named: dict[str, Intervals] = {}
        matched: dict[Match, Intervals] = {}
        for where, each in written:
            intervals = self._intervals(each.intervals, f"{where}.intervals")
            if isinstance(each.symbols, list) and each.match is UNSET:
                for symbol in self._symbols(each.symbols, where):
                    named[symbol] = named.get(symbol, NONE) | intervals
            elif isinstance(each.match, Pattern) and each.symbols is UNSET:
                match = self._match(each.match, f"{where}.match")
                matched[match] = matched.get(match, NONE) | intervals
            else:
                raise InvalidRequest(f"{where}: expected symbols or match, and not both")
        return Selection(named=named, matched=matched)

    def _symbols(self, names: list[str], where: str) -> list[str]:
        if not names:
            raise InvalidRequest(f"{where}.symbols: the list is empty")
        return [self._symbol(name, f"{where}.symbols[{at}]") for at, name in enumerate(names)]

    def _symbol(self, name: str, where: str) -> str:
        if not (symbol := name.strip().upper()):
            raise InvalidRequest(f"{where}: the name is empty")
        places = (self.listings, self.present.named, self.present.excluded)
        if self.listings is not None and not any(symbol in place for place in places if place):
            raise InvalidRequest(f"{where}: {symbol} does not exist on {self.venue.name}")
        return symbol

    def _match(self, written: Pattern, where: str) -> Match:
        if written.name is UNSET and not (written.quote.strip() or written.contract.strip()):
            raise InvalidRequest(
                f"{where}: it has no name, quote or contract;"
                ' for the whole market write {"name": "*"}'
            )
        match = Match(
            name="*" if written.name is UNSET else self._glob(written.name, f"{where}.name"),
            quote=written.quote.strip().upper(),
            contract=written.contract.strip().upper(),
            exclude=[
                self._glob(name, f"{where}.exclude[{at}]")
                for at, name in enumerate(written.exclude)
            ],
        )
        if self.listings is not None and match not in self.present.matched:
            _check_brackets(match.name, f"{where}.name")
            for at, name in enumerate(written.exclude):
                _check_brackets(name, f"{where}.exclude[{at}]")
            listed = self.listings.values()
            self._check(match.quote, (each.quote for each in listed), f"{where}.quote")
            self._check(match.contract, (each.contract for each in listed), f"{where}.contract")
        return match

    def _glob(self, name: str, where: str) -> str:
        if not (glob := name.strip().upper()):
            raise InvalidRequest(f"{where}: the name is empty")
        return glob

    def _check(self, name: str, offered: Iterable[str], where: str) -> None:
        if name and name not in (there := set(offered)):
            there_are = ", ".join(sorted(filter(None, there))) or "none"
            raise InvalidRequest(
                f"{where}: {name} does not exist on {self.venue.name}; there are {there_are}"
            )

    def _intervals(self, written: list[str] | Literal["all"], where: str) -> Intervals:
        if written == "all":
            return self.all_intervals
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


def _check_brackets(glob: str, where: str) -> None:
    """Refuse brackets that fnmatch would take literally: no symbol has brackets or `^`."""
    if "[^" in glob:
        raise InvalidRequest(f"{where}: {glob.strip()!r}: write [!ab] for neither a nor b")
    left = _ONE_OF.sub("", glob)
    if "[" in left or "]" in left:
        raise InvalidRequest(
            f"{where}: {glob.strip()!r} has an unpaired or empty bracket; write [ab] for a or b"
        )


def pattern_of(match: Match) -> Pattern:
    """Write `match` as a pattern."""
    return Pattern(
        name=match.name, quote=match.quote, contract=match.contract, exclude=list(match.exclude)
    )


def write(selection: Selection, venue: Venue) -> SubscriptionSet:
    """Write `selection`; symbols at the same intervals share an entry."""
    patterns = [
        Wanted(match=pattern_of(match), intervals=_written(intervals, venue))
        for match, intervals in selection.matched.items()
    ]
    return SubscriptionSet(
        subscriptions=[
            *(
                Wanted(symbols=symbols, intervals=_written(intervals, venue))
                for intervals, symbols in _together(selection.named)
            ),
            *patterns,
        ],
        exclude=[
            Excluded(symbols=symbols, intervals=_written(intervals, venue))
            for intervals, symbols in _together(selection.excluded)
        ],
    )


def _together(series: SeriesSet) -> Iterable[tuple[Intervals, list[str]]]:
    together: dict[Intervals, list[str]] = {}
    for symbol, intervals in series.items():
        together.setdefault(intervals, []).append(symbol)
    return together.items()


def _written(intervals: Intervals, venue: Venue) -> list[str] | Literal["all"]:
    if intervals == venue.usual_intervals:
        return "all"
    return [each.value for each in Interval if each in intervals]
