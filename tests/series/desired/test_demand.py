"""The demand, as selection, configuration and listings change."""

from __future__ import annotations

import pytest
from attrs import evolve
from attrs.exceptions import FrozenInstanceError
from hypothesis import given
from hypothesis import strategies as st

from klineagent.core.errors import InvalidRequest, SymbolLimitReached
from klineagent.core.interval import Interval
from klineagent.exchange.rest_answers import SymbolInfo
from klineagent.series.desired.demand import MOST_PATTERNS, Demand, plan
from klineagent.series.desired.selection import Match, Selection, SeriesSet

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
    return Demand(
        configured=configured or {},
        selection=selection or Selection(),
        venue_name="usdm",
        max_symbols=max_symbols,
        running=running or {},
        listings=_listings(*listed),
    )


def test_what_is_wanted_follows_the_listings() -> None:
    """A pattern wants symbols as they are listed, and not after their delisting."""
    demand = _demand(EVERYTHING, listed=NAMES[:2])
    assert demand.resolution.wanted.keys() == {"AUSDT", "BUSDT"}
    demand = evolve(demand, listings=_listings(*NAMES[1:]))
    assert demand.resolution.wanted.keys() == {"BUSDT", "CUSDT"}
    assert (demand.intervals("AUSDT"), demand.intervals("BUSDT")) == (frozenset(), M1)


def test_a_change_shows_its_effect_and_changes_nothing() -> None:
    """Until its selection is adopted."""
    demand = _demand(Selection(named={"AUSDT": M1}))
    change = demand.change(Selection(named={"BUSDT": M1}, matched={Match(name="X*"): M1}))
    assert (change.added, change.removed) == ({"BUSDT": M1}, {"AUSDT": M1})
    assert change.unmatched == (Match(name="X*"),)
    assert demand.resolution.wanted == {"AUSDT": M1}
    demand = evolve(demand, selection=change.selection)
    assert demand.resolution.wanted == change.wanted == {"BUSDT": M1}


def test_the_configured_series_are_wanted_as_well() -> None:
    """Unless they are excepted, until they are added again."""
    named = Selection(named={"AUSDT": M1})
    demand = _demand(configured={"AUSDT": M1})
    assert demand.resolution.wanted == {"AUSDT": M1}
    demand = evolve(demand, selection=demand.removing(named))
    assert demand.resolution.wanted == {}
    assert demand.intervals("AUSDT") == frozenset()
    demand = evolve(demand, selection=demand.adding(named))
    assert demand.resolution.wanted == {"AUSDT": M1}


def test_a_demand_never_changes() -> None:
    """Another selection makes another demand."""
    demand = _demand(EVERYTHING)
    with pytest.raises(FrozenInstanceError):
        demand.selection = Selection()  # type: ignore[misc]  # what is shown


def test_more_symbols_than_allowed_are_refused_unless_they_run() -> None:
    """If listings have led to it, a smaller set is accepted; what runs keeps its place."""
    demand = _demand(max_symbols=2)
    with pytest.raises(SymbolLimitReached, match="comes to 3 symbols, more than the 2 allowed"):
        demand.change(EVERYTHING)
    grown = _demand(EVERYTHING, max_symbols=2, running={"CUSDT": M1})
    assert grown.resolution.wanted.keys() == {"AUSDT", "CUSDT"}
    assert grown.change(EVERYTHING).added == {}


def test_more_patterns_than_allowed_are_refused_unless_they_exist() -> None:
    """A state file may hold them."""
    many = {Match(name=f"{number}*"): M1 for number in range(MOST_PATTERNS + 1)}
    with pytest.raises(InvalidRequest, match="comes to 101 patterns, more than the 100 allowed"):
        _demand().change(Selection(matched=many))
    demand = _demand(Selection(matched=many))
    assert demand.change(Selection(matched=many, named={"AUSDT": M1})).added == {"AUSDT": M1}


_sets = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("usdm", "coinm", "spot"), st.sets(st.sampled_from(NAMES)))
)


@given(_sets, _sets, st.integers(1, 9))
def test_venues_change_at_once_within_the_symbols_that_are_allowed_in_all(
    present: dict[str, set[str]], asked: dict[str, set[str]], most: int
) -> None:
    """Places that one gives up are another's; refused is only what grows beyond the limit."""
    running = {name: present.get(name, set()) for name in ("usdm", "coinm", "spot")}
    taken = sum(map(len, running.values()))
    demands = {
        name: evolve(
            _demand(Selection(named=dict.fromkeys(symbols, M1)), max_symbols=max(most, taken)),
            taken_by_others=taken - len(symbols),
        )
        for name, symbols in running.items()
    }
    then = running | asked
    selections = {name: Selection(named=dict.fromkeys(each, M1)) for name, each in asked.items()}
    if sum(map(len, then.values())) > max(most, taken):
        with pytest.raises(SymbolLimitReached):
            plan(demands, selections)
        return
    for name, change in plan(demands, selections).items():
        assert change.wanted.keys() == then[name]
        assert change.added.keys() == then[name] - running[name]
        assert change.removed.keys() == running[name] - then[name]
