"""What is wanted at this moment, decided from selection, configuration and listings. No I/O."""

from __future__ import annotations

from functools import cached_property

from attrs import frozen

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

# Each is compared with every symbol, which takes a tenth of a millisecond.
MOST_PATTERNS = 100


@frozen(kw_only=True)
class Change:
    """What another selection would change."""

    selection: Selection
    wanted: SeriesSet
    """All that is wanted then."""
    added: SeriesSet
    removed: SeriesSet
    unmatched: tuple[Match, ...]
    """Patterns that match nothing at the moment."""


@frozen(eq=False, kw_only=True)
class Demand:
    """The `configured` series and a `selection`, of at most `max_symbols` symbols that are listed.

    Another selection, or other listings, make another demand.
    """

    configured: SeriesSet
    selection: Selection
    venue_name: str
    max_symbols: int
    running: SeriesSet
    """What runs now, whoever changes that: it has a claim to its place."""
    listings: Listings | None = None
    """As of the last look; None before the first."""

    def adding(self, more: Selection) -> Selection:
        """The selection that wants what `more` wants as well."""
        return self.selection.adding(more, self.listings)

    def removing(self, gone: Selection) -> Selection:
        """The selection that wants nothing of what `gone` names."""
        return self.selection.removing(gone, self.listings, always=self.configured)

    @cached_property
    def resolution(self) -> Resolution:
        """What the selection, and what is configured, come to."""
        return self._limited(self._resolve(self.selection), self.selection)

    def intervals(self, symbol: str) -> Intervals:
        """The intervals of `symbol` that are wanted, cheaper than by a resolution."""
        info = (self.listings or {}).get(symbol)
        listed = info if info is not None and info.is_listed else None
        excepted = self.selection.excluded.get(symbol, NONE)
        configured = self.configured.get(symbol, NONE) - excepted
        return self.selection.fitting(symbol, listed) | configured

    def change(self, selection: Selection) -> Change:
        """What `selection` would change in place of the present one.

        Raises:
            InvalidRequest: it has more patterns than are allowed, and than now.
            SymbolLimitReached: it comes to more symbols than are allowed, and than now.
        """
        patterns = len(selection.matched)
        if patterns > max(MOST_PATTERNS, len(self.selection.matched)):
            raise InvalidRequest(
                f"the set comes to {patterns} patterns, more than the {MOST_PATTERNS} allowed:"
                " name symbols instead, or write patterns that match more of them"
            )
        whole = self._resolve(selection)
        symbols = len(whole.wanted)
        if symbols > self.max_symbols and symbols > len(self._resolve(self.selection).wanted):
            raise SymbolLimitReached(
                f"the set comes to {symbols} symbols, more than the {self.max_symbols} allowed"
                " (max_symbols)"
            )
        wanted, before = self._limited(whole, selection).wanted, self.resolution.wanted
        return Change(
            selection=selection,
            wanted=wanted,
            added=less(wanted, before),
            removed=less(before, wanted),
            unmatched=whole.unmatched,
        )

    def _resolve(self, selection: Selection) -> Resolution:
        whole = selection.naming(self.configured)
        return resolve(whole, self.listings, venue_name=self.venue_name)

    def _limited(self, resolution: Resolution, selection: Selection) -> Resolution:
        return limited(
            resolution,
            self.listings,
            most=self.max_symbols,
            claims=(self.configured, self.running, selection.named),
        )
