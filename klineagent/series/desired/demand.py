"""The demand: the series wanted now, by selection, configuration and listings. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from attrs import evolve, frozen

from klineagent.core.errors import InvalidRequest, SymbolLimitReached
from klineagent.series.desired.selection import (
    NONE,
    Intervals,
    Listings,
    Match,
    Resolution,
    Selection,
    SeriesSet,
    less,
    limited,
    resolve,
)

# The limit of patterns. Comparing one with every symbol takes a tenth of a millisecond.
MOST_PATTERNS = 100


@frozen(kw_only=True)
class Change:
    """The change that another selection would make."""

    selection: Selection
    wanted: SeriesSet
    """All series that are wanted after the change."""
    added: SeriesSet
    removed: SeriesSet
    unmatched: tuple[Match, ...]
    """The patterns that match no symbol at the moment."""


@frozen(eq=False, kw_only=True)
class Demand:
    """Demands the `configured` series and a `selection`, to at most `max_symbols` listed symbols.

    It never changes: another selection, or other listings, make another demand.
    """

    configured: SeriesSet
    selection: Selection
    venue_name: str
    max_symbols: int
    """The most symbols of all venues together."""
    taken_by_others: int = 0
    """The symbols that run on other venues, or are configured and about to run."""
    running: SeriesSet
    """The series that run now, a live view: they have a claim to their places."""
    listings: Listings | None = None
    """The venue's symbols; None until they are known."""

    def adding(self, more: Selection) -> Selection:
        """Return the selection that also wants what `more` wants."""
        return self.selection.adding(more, self.listings)

    def removing(self, gone: Selection) -> Selection:
        """Return the selection that wants nothing of what `gone` names."""
        return self.selection.removing(gone, self.listings, always=self.configured)

    @cached_property
    def resolution(self) -> Resolution:
        """The series to which selection and configuration resolve."""
        return self._limited(self._resolve(self.selection), self.selection)

    def intervals(self, symbol: str) -> Intervals:
        """Return the wanted intervals of `symbol`, without resolving the whole selection."""
        info = (self.listings or {}).get(symbol)
        listed = info if info is not None and info.is_listed else None
        excepted = self.selection.excluded.get(symbol, NONE)
        configured = self.configured.get(symbol, NONE) - excepted
        return self.selection.fitting(symbol, listed) | configured

    def symbols(self, selection: Selection) -> int:
        """Count the symbols that are wanted with `selection`, however many are allowed."""
        return len(self._resolve(selection).wanted)

    def change(self, selection: Selection, *, before: SeriesSet | None = None) -> Change:
        """Return the change that `selection` would make in place of the present one.

        `before` is what is wanted now, if other venues take other places after the change.

        Raises:
            InvalidRequest: it has more patterns than allowed, and more than the present one.
            SymbolLimitReached: it has more symbols than allowed, and more than the present one.
        """
        patterns = len(selection.matched)
        if patterns > max(MOST_PATTERNS, len(self.selection.matched)):
            raise InvalidRequest(
                f"the set comes to {patterns} patterns, more than the {MOST_PATTERNS} allowed:"
                " name symbols instead, or write patterns that match more of them"
            )
        whole = self._resolve(selection)
        symbols = len(whole.wanted)
        if symbols > self._places and symbols > self.symbols(self.selection):
            others = f" and {self.taken_by_others} of other venues" if self.taken_by_others else ""
            raise SymbolLimitReached(
                f"the set comes to {symbols} symbols{others}, more than the {self.max_symbols}"
                " allowed (max_symbols)"
            )
        wanted = self._limited(whole, selection).wanted
        before = self.resolution.wanted if before is None else before
        return Change(
            selection=selection,
            wanted=wanted,
            added=less(wanted, before),
            removed=less(before, wanted),
            unmatched=whole.unmatched,
        )

    @property
    def _places(self) -> int:
        return max(0, self.max_symbols - self.taken_by_others)

    def _resolve(self, selection: Selection) -> Resolution:
        whole = selection.naming(self.configured)
        return resolve(whole, self.listings, venue_name=self.venue_name)

    def _limited(self, resolution: Resolution, selection: Selection) -> Resolution:
        return limited(
            resolution,
            self.listings,
            most=self._places,
            allowed=self.max_symbols,
            claims=(self.configured, self.running, selection.named),
        )


def plan(demands: Mapping[str, Demand], selections: Mapping[str, Selection]) -> dict[str, Change]:
    """Return the change of each venue if some get other `selections`, all at once, by its name.

    `demands` are those of all venues, which share the places of symbols.

    Raises:
        InvalidRequest: see `Demand.change`.
        SymbolLimitReached: likewise.
    """

    def symbols(name: str) -> int:
        demand, selection = demands[name], selections.get(name)
        return len(demand.resolution.wanted) if selection is None else demand.symbols(selection)

    changes = {}
    for name, demand in demands.items():
        others = sum(symbols(other) for other in demands if other != name)
        changes[name] = evolve(demand, taken_by_others=others).change(
            selections.get(name, demand.selection), before=demand.resolution.wanted
        )
    return changes
