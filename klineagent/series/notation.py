"""How a selection is written: in requests, in answers, and in the file that keeps it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Annotated, Literal

from attrs import evolve, field, frozen
from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec import field as struct_field

from klineagent.errors import InvalidRequest
from klineagent.kline import Interval
from klineagent.market.venues import Venue
from klineagent.series.selection import Intervals, Listings, Match, Selection, Series, joined

LONGEST_NAME = 100
"""Of a pattern, in characters; symbols have 17."""

Names = Annotated[
    list[str], Meta(description="Symbols; case and blanks around them do not matter.")
]
IntervalsWritten = Annotated[
    list[str] | Literal["all"],
    Meta(description='Intervals, or "all" that the venue offers.', examples=[["1m", "1h"], "all"]),
]
_Glob = Annotated[str, Meta(max_length=LONGEST_NAME, examples=["*USDT"])]


class Pattern(Struct, frozen=True, forbid_unknown_fields=True):
    """A pattern of symbols; it follows listings and delistings by itself."""

    name: Annotated[
        _Glob, Meta(description="`*` stands for any characters, `?` for one, `[ab]` for a or b.")
    ] = "*"
    quote: Annotated[
        str, Meta(description="The asset prices are in; empty for any.", examples=["USDT"])
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


class Wanted(Struct, frozen=True, forbid_unknown_fields=True):
    """Symbols, or a pattern of symbols, at intervals; one of `symbols` and `match` is there."""

    intervals: IntervalsWritten
    symbols: Names | UnsetType = UNSET
    match: Pattern | UnsetType = UNSET
    origin: (
        Annotated[
            Literal["configuration", "http"],
            Meta(
                description="Where it comes from. What the configuration names is wanted anyway:"
                " in a PUT it changes nothing."
            ),
        ]
        | UnsetType
    ) = struct_field(default=UNSET, name="from")


class Excluded(Struct, frozen=True, forbid_unknown_fields=True):
    """Symbols that are not wanted at these intervals, whatever matches or names them."""

    symbols: Names
    intervals: IntervalsWritten


class SubscriptionSet(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole set: what is wanted, and exceptions from it."""

    subscriptions: list[Wanted]
    exclude: list[Excluded] = []


@frozen(kw_only=True)
class Reader:
    """Reads what is written, as far as `venue` offers it.

    Its methods raise `InvalidRequest`, which names the field. Without `listings` nothing is known
    about symbols, and anything goes; what is `present` already goes in any case.
    """

    venue: Venue
    listings: Listings | None = None
    present: Selection = field(factory=Selection)

    def selection(self, written: SubscriptionSet) -> Selection:
        """A whole set, without what comes from the configuration."""
        ours = [
            (f"subscriptions[{at}]", each)
            for at, each in enumerate(written.subscriptions)
            if each.origin != "configuration"
        ]
        excluded: Series = {}
        for at, each in enumerate(written.exclude):
            intervals = self._intervals(each.intervals, f"exclude[{at}].intervals")
            excluded = joined(excluded, self._series(each.symbols, intervals, f"exclude[{at}]"))
        return evolve(self._wanted(ours), excluded=excluded)

    def wanted(self, written: Sequence[Wanted], name: str) -> Selection:
        """What the list called `name` asks for."""
        return self._wanted((f"{name}[{at}]", each) for at, each in enumerate(written))

    def _wanted(self, written: Iterable[tuple[str, Wanted]]) -> Selection:
        selection = Selection()
        for where, each in written:
            intervals = self._intervals(each.intervals, f"{where}.intervals")
            if isinstance(each.symbols, list) and each.match is UNSET:
                more = Selection(named=self._series(each.symbols, intervals, where))
            elif isinstance(each.match, Pattern) and each.symbols is UNSET:
                more = Selection(matched={self._match(each.match, f"{where}.match"): intervals})
            else:
                raise InvalidRequest(f"{where}: expected symbols or match, and not both")
            selection = selection.adding(more, None)
        return selection

    def _series(self, names: list[str], intervals: Intervals, where: str) -> Series:
        if not names:
            raise InvalidRequest(f"{where}.symbols: the list is empty")
        return {
            self._symbol(name, f"{where}.symbols[{at}]"): intervals for at, name in enumerate(names)
        }

    def _symbol(self, name: str, where: str) -> str:
        if not (symbol := name.strip().upper()):
            raise InvalidRequest(f"{where}: the name is empty")
        places = (self.listings, self.present.named, self.present.excluded)
        if self.listings is not None and not any(symbol in place for place in places if place):
            raise InvalidRequest(f"{where}: {symbol} does not exist on {self.venue.name}")
        return symbol

    def _match(self, written: Pattern, where: str) -> Match:
        match = Match(
            name=self._glob(written.name, f"{where}.name"),
            quote=written.quote.strip().upper(),
            contract=written.contract.strip().upper(),
            exclude=[
                self._glob(name, f"{where}.exclude[{at}]")
                for at, name in enumerate(written.exclude)
            ],
        )
        if self.listings is not None and match not in self.present.matched:
            listed = self.listings.values()
            self._check(match.quote, {each.quote for each in listed}, f"{where}.quote")
            self._check(match.contract, {each.contract for each in listed}, f"{where}.contract")
        return match

    def _glob(self, name: str, where: str) -> str:
        if not (glob := name.strip().upper()):
            raise InvalidRequest(f"{where}: the name is empty")
        return glob

    def _check(self, name: str, offered: Collection[str], where: str) -> None:
        if name and name not in offered:
            there_are = ", ".join(sorted(each for each in offered if each)) or "none"
            raise InvalidRequest(
                f"{where}: {name} does not exist on {self.venue.name}; there are {there_are}"
            )

    def _intervals(self, written: list[str] | Literal["all"], where: str) -> Intervals:
        if written == "all":
            return self.venue.intervals
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


def write(selection: Selection, venue: Venue) -> SubscriptionSet:
    """`selection` as it would be asked for; symbols at the same intervals together."""
    patterns = [
        Wanted(
            match=Pattern(
                name=match.name,
                quote=match.quote,
                contract=match.contract,
                exclude=list(match.exclude),
            ),
            intervals=_written(intervals, venue),
        )
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


def _together(series: Series) -> Iterable[tuple[Intervals, list[str]]]:
    together: dict[Intervals, list[str]] = {}
    for symbol, intervals in series.items():
        together.setdefault(intervals, []).append(symbol)
    return together.items()


def _written(intervals: Intervals, venue: Venue) -> list[str] | Literal["all"]:
    if intervals == venue.intervals:
        return "all"
    return [each.value for each in Interval if each in intervals]
