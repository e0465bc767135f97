"""What is wanted, as selection, configuration and listings change."""

from __future__ import annotations

import pytest

from klineagent.errors import InvalidRequest, SymbolLimitReached
from klineagent.kline import Interval
from klineagent.market.rest import SymbolInfo
from klineagent.series.demand import MOST_PATTERNS, Demand
from klineagent.series.selection import Match, Selection, SeriesSet

M1 = frozenset({Interval.M1})
NAMES = ("AUSDT", "BUSDT", "CUSDT")
EVERYTHING = Selection(matched={Match(): M1})


def _listings(*names: str) -> dict[str, SymbolInfo]:
    return {
        name: SymbolInfo(
            symbol=name, status="TRADING", is_trading=True, is_listed=True, onboard_ms=age
        )
        for age, name in enumerate(names)
    }


def _demand(
    selection: Selection | None = None,
    *,
    configured: SeriesSet | None = None,
    running: SeriesSet | None = None,
    max_symbols: int = 3,
    listed: tuple[str, ...] = NAMES,
) -> Demand:
    demand = Demand(
        configured=configured or {},
        selection=selection or Selection(),
        venue_name="usdm",
        max_symbols=max_symbols,
        running=running or {},
    )
    demand.learn(_listings(*listed))
    return demand


def test_what_is_wanted_follows_the_listings() -> None:
    """A pattern wants what is new, and no more what is gone."""
    demand = _demand(EVERYTHING, listed=NAMES[:2])
    assert demand.resolution().wanted.keys() == {"AUSDT", "BUSDT"}
    demand.learn(_listings(*NAMES[1:]))
    assert demand.resolution().wanted.keys() == {"BUSDT", "CUSDT"}
    assert (demand.intervals("AUSDT"), demand.intervals("BUSDT")) == (frozenset(), M1)


def test_a_change_tells_what_it_would_be_and_changes_nothing() -> None:
    """Until it is what replaces the selection."""
    demand = _demand(Selection(named={"AUSDT": M1}))
    change = demand.change(Selection(named={"BUSDT": M1}, matched={Match(name="X*"): M1}))
    assert (change.added, change.removed) == ({"BUSDT": M1}, {"AUSDT": M1})
    assert change.unmatched == (Match(name="X*"),)
    assert demand.resolution().wanted == {"AUSDT": M1}
    assert demand.replace(change.selection)
    assert demand.resolution().wanted == change.wanted == {"BUSDT": M1}
    assert not demand.replace(change.selection)


def test_what_is_configured_is_wanted_besides() -> None:
    """What was excepted of it before the start is forgotten; what is excepted later is not."""
    demand = _demand(Selection(excluded={"AUSDT": M1}), configured={"AUSDT": M1})
    assert demand.resolution().wanted == {"AUSDT": M1}
    assert demand.replace(demand.removing(Selection(named={"AUSDT": M1})))
    assert demand.resolution().wanted == {}
    assert demand.intervals("AUSDT") == frozenset()
    assert demand.replace(demand.adding(Selection(named={"AUSDT": M1})))
    assert demand.resolution().wanted == {"AUSDT": M1}


def test_more_symbols_than_allowed_are_refused_unless_they_are_there() -> None:
    """Where listings have made it so, less of it is fine; what runs keeps its place."""
    demand = _demand(max_symbols=2)
    with pytest.raises(SymbolLimitReached, match="comes to 3 symbols, more than the 2 allowed"):
        demand.change(EVERYTHING)
    grown = _demand(EVERYTHING, max_symbols=2, running={"CUSDT": M1})
    assert grown.resolution().wanted.keys() == {"AUSDT", "CUSDT"}
    assert grown.change(EVERYTHING).added == {}


def test_more_patterns_than_allowed_are_refused_unless_they_are_there() -> None:
    """As a state file may have them."""
    many = {Match(name=f"{number}*"): M1 for number in range(MOST_PATTERNS + 1)}
    with pytest.raises(InvalidRequest, match="comes to 101 patterns, more than the 100 allowed"):
        _demand().change(Selection(matched=many))
    demand = _demand(Selection(matched=many))
    assert demand.change(Selection(matched=many, named={"AUSDT": M1})).added == {"AUSDT": M1}
