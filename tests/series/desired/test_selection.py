"""What a selection wants, and how it changes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klineagent.core.interval import Interval
from klineagent.exchange.rest_answers import SymbolInfo
from klineagent.series.desired.selection import (
    NONE,
    Listings,
    Match,
    Resolution,
    Selection,
    SeriesSet,
    count,
    in_order,
    joined,
    less,
    limited,
    resolve,
)

SYMBOLS = ("AUSDT", "BUSDT", "ABUSDC", "BTC_Q", "GONE")
INTERVALS = (Interval.M1, Interval.H1, Interval.D1)

_intervals = st.frozensets(st.sampled_from(INTERVALS), min_size=1)
_series = st.dictionaries(st.sampled_from([*SYMBOLS, "UNKNOWN"]), _intervals)
_matches = st.builds(
    Match,
    name=st.sampled_from(["*", "A*", "*USDT", "?USDT", "[AB]*", "B*"]),
    quote=st.sampled_from(["", "USDT", "USDC"]),
    contract=st.sampled_from(["", "PERPETUAL", "CURRENT_QUARTER"]),
    exclude=st.lists(st.sampled_from(["B*", "AUSDT"]), max_size=2),
)
_selections = st.builds(
    Selection,
    named=_series,
    matched=st.dictionaries(_matches, _intervals, max_size=3),
    excluded=_series,
)


@st.composite
def _markets(draw: st.DrawFn) -> Listings:
    return {
        symbol: SymbolInfo(
            symbol=symbol,
            status="",
            is_trading=True,
            is_listed=draw(st.booleans()),
            quote=symbol[-4:],
            contract="CURRENT_QUARTER" if "_" in symbol else "PERPETUAL",
            onboard_ms=draw(st.integers(0, 3)),
        )
        for symbol in SYMBOLS
    }


def _wanted(selection: Selection, listings: Listings | None) -> set[tuple[str, Interval]]:
    return set(in_order(resolve(selection, listings, venue_name="usdm").wanted))


def _of(series: SeriesSet) -> set[tuple[str, Interval]]:
    return set(in_order(series))


@given(_series, _series)
def test_series_behave_like_sets(one: SeriesSet, other: SeriesSet) -> None:
    """By symbol or one by one it is the same algebra, and no symbol is left without intervals."""
    assert _of(joined(one, other)) == _of(one) | _of(other)
    assert _of(less(one, other)) == _of(one) - _of(other)
    assert count(one) == len(_of(one))
    assert NONE not in less(one, other).values()


@given(_selections, _selections, _markets())
def test_what_is_added_is_wanted_and_nothing_is_lost(
    selection: Selection, more: Selection, listings: Listings
) -> None:
    """Even if it was excluded before; adding it twice changes nothing more."""
    more = Selection(named=more.named, matched=more.matched)
    both = selection.adding(more, listings)
    either = _wanted(selection, listings) | _wanted(more, listings)
    # A pattern that will want a series later makes no exception from a name any more, either.
    unexcepted = _wanted(Selection(named=selection.named), listings)
    assert either <= _wanted(both, listings) <= either | unexcepted
    assert both.adding(more, listings) == both


@given(_selections, _series, _series, _markets())
def test_what_is_removed_by_name_is_not_wanted_and_nothing_else_changes(
    selection: Selection,
    gone: SeriesSet,
    always: SeriesSet,
    listings: Listings,
) -> None:
    """Whatever wants it; removing it twice changes nothing more, adding it again restores it."""
    named = Selection(named=gone)
    left = selection.removing(named, listings, always=always)
    before = _wanted(selection.naming(always), listings)
    assert _wanted(left.naming(always), listings) == before - _of(gone)
    assert left.removing(named, listings, always=always) == left
    again = left.adding(named, listings)
    assert _wanted(again, listings) >= _wanted(named, listings)


@given(_selections, st.data(), _markets())
def test_a_pattern_is_removed_if_it_is_equal(
    selection: Selection, data: st.DataObject, listings: Listings
) -> None:
    """Series that others want of its symbols stay."""
    if not selection.matched:
        return
    match = data.draw(st.sampled_from(list(selection.matched)))
    gone = Selection(matched={match: selection.matched[match]})
    left = selection.removing(gone, listings)
    others = {each: at for each, at in selection.matched.items() if each != match}
    assert left == Selection(named=selection.named, matched=others, excluded=selection.excluded)


@given(_selections, _markets())
def test_only_what_is_listed_matches(selection: Selection, listings: Listings) -> None:
    """A pattern wants no symbol before its listing or after its delisting; a name does."""
    resolution = resolve(selection, listings, venue_name="usdm")
    for symbol, intervals in resolution.wanted.items():
        assert symbol in selection.named or listings[symbol].is_listed
        listed = listings[symbol] if listings[symbol].is_listed else None
        assert intervals == selection.fitting(symbol, listed)
    unknown = {
        symbol
        for symbol in selection.named
        if symbol not in listings and selection.fitting(symbol, None)
    }
    assert resolution.refused == {symbol: f"{symbol} does not exist on usdm" for symbol in unknown}


@given(_selections, _markets())
def test_patterns_that_match_nothing_are_reported(selection: Selection, listings: Listings) -> None:
    """All others want, or except, something listed; the limit changes nothing of that."""
    resolution = resolve(selection, listings, venue_name="usdm")
    listed = [info for info in listings.values() if info.is_listed]
    for match in selection.matched:
        assert (match in resolution.unmatched) != any(match.fits(info) for info in listed)
    some = limited(resolution, listings, most=0, allowed=0, claims=())
    assert some.unmatched == resolution.unmatched


@given(_selections)
def test_before_listings_are_known_names_are_all_there_is(selection: Selection) -> None:
    """Nothing is refused, and no pattern matches."""
    resolution = resolve(selection, None, venue_name="usdm")
    assert resolution.wanted == less(selection.named, selection.excluded)
    assert resolution.refused == {}
    assert resolution.unmatched == ()


@given(_selections, _markets(), st.integers(0, 6), st.frozensets(st.sampled_from(SYMBOLS)))
def test_the_limit_is_kept_and_claims_come_first(
    selection: Selection, listings: Listings, most: int, claim: frozenset[str]
) -> None:
    """Every symbol is wanted or refused, and those with a claim come first."""
    whole = resolve(selection, listings, venue_name="usdm")
    some = limited(whole, listings, most=most, allowed=most, claims=(claim,))
    assert len(some.wanted) == min(most, len(whole.wanted))
    assert some.wanted.items() <= whole.wanted.items()
    assert some.wanted.keys() | some.refused.keys() == whole.wanted.keys() | whole.refused.keys()
    turned_away = claim & (some.refused.keys() - whole.refused.keys())
    assert not turned_away or some.wanted.keys() <= claim


def test_older_listings_come_first() -> None:
    """Among symbols without a claim the one listed earlier gets the place."""
    infos = [
        SymbolInfo(symbol=name, status="", is_trading=True, is_listed=True, onboard_ms=onboard_ms)
        for name, onboard_ms in (("NEW", 2), ("OLD", 1))
    ]
    listings = {info.symbol: info for info in infos}
    at = frozenset(INTERVALS)
    whole = Resolution(wanted={"NEW": at, "OLD": at})
    assert limited(whole, listings, most=1, allowed=1, claims=()) == Resolution(
        wanted={"OLD": at},
        refused={"NEW": "NEW would be one more than the 1 symbols allowed"},
    )


@pytest.mark.parametrize(
    ("match", "fits"),
    [
        (Match(), True),
        (Match(name="*USDT"), True),
        (Match(name="*usdt"), False),
        (Match(name="?TCUSDT", quote="USDT", contract="PERPETUAL"), True),
        (Match(quote="USDC"), False),
        (Match(contract="CURRENT_QUARTER"), False),
        (Match(exclude=["BTCDOM*"]), True),
        (Match(exclude=["BTC*"]), False),
    ],
)
def test_patterns(match: Match, *, fits: bool) -> None:
    """Every part of a pattern has to fit, and no exclusion may."""
    info = SymbolInfo(
        symbol="BTCUSDT",
        status="TRADING",
        is_trading=True,
        is_listed=True,
        quote="USDT",
        contract="PERPETUAL",
    )
    assert match.fits(info) is fits
