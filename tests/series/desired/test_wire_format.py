"""The wire format of selections, and the errors of what is not one."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from klineagent.core.errors import InvalidRequest
from klineagent.core.interval import Interval
from klineagent.exchange.rest_answers import SymbolInfo
from klineagent.exchange.venues import SPOT, USDM, Venue
from klineagent.series.desired.selection import Match, Selection
from klineagent.series.desired.state_file import decode, encode
from klineagent.series.desired.wire_format import (
    LONGEST_NAME,
    Pattern,
    SetReader,
    SubscriptionSet,
    pattern_of,
    write,
)

_names = st.text("ABU1*?[]-人", min_size=1, max_size=5)


def _selections_of(venue: Venue) -> st.SearchStrategy[Selection]:
    some = st.frozensets(st.sampled_from(sorted(venue.intervals, key=str)), min_size=1)
    intervals = some | st.sampled_from([venue.intervals, venue.usual_intervals])
    series = st.dictionaries(_names, intervals, max_size=4)
    matches = st.builds(
        Match,
        name=_names,
        quote=st.sampled_from(["", "USDT"]),
        contract=st.sampled_from(["", "PERPETUAL"]),
        exclude=st.lists(_names, max_size=2),
    )
    matched = st.dictionaries(matches, intervals, max_size=3)
    return st.builds(Selection, named=series, matched=matched, excluded=series)


LISTINGS = {
    name: SymbolInfo(
        symbol=name,
        status="TRADING",
        is_trading=True,
        is_listed=True,
        quote="USDT",
        contract="PERPETUAL",
    )
    for name in ("BTCUSDT", "ETHUSDT")
}
READER = SetReader(venue=USDM, listings=LISTINGS)


def _read(wanted: object, exclude: object = ()) -> Selection:
    body = msgspec.json.encode({"subscriptions": [wanted], "exclude": exclude})
    return READER.selection(msgspec.json.decode(body, type=SubscriptionSet))


@given(_selections_of(USDM), _selections_of(SPOT))
def test_a_written_selection_reads_back_equal(usdm: Selection, spot: Selection) -> None:
    """In a request and in the state file."""
    assert SetReader(venue=USDM).selection(write(usdm, USDM)) == usdm
    assert SetReader(venue=SPOT).selection(write(spot, SPOT)) == spot
    assert decode(encode({"usdm": usdm, "spot": spot})) == {"usdm": usdm, "spot": spot}


@given(_selections_of(USDM), _selections_of(SPOT))
def test_selections_of_two_venues_are_told_apart(usdm: Selection, spot: Selection) -> None:
    """Each reader takes what is its own, whichever venue is the default one."""
    for default in (USDM, SPOT):
        ours, others = write(usdm, USDM, default), write(spot, SPOT, default)
        both = SubscriptionSet(
            [*others.subscriptions, *ours.subscriptions], [*ours.exclude, *others.exclude]
        )
        assert SetReader(venue=USDM, default=default).selection(both) == usdm
        assert SetReader(venue=SPOT, default=default).selection(both) == spot


def test_a_pattern_as_text() -> None:
    """All that restricts it, in one line."""
    match = Match(name="*T", quote="USDT", contract="PERPETUAL", exclude=["B*", "A*"])
    assert str(pattern_of(match)) == "*T USDT PERPETUAL but A* B*"
    assert str(pattern_of(Match())) == str(Pattern()) == "*"


def test_names_are_normalized() -> None:
    """Case and blanks do not matter, nor do duplicates."""
    read = _read({"symbols": [" btcusdt ", "BTCUSDT", "EthUsdt"], "intervals": [" 1m", "1m"]})
    at = frozenset({Interval.M1})
    assert read == Selection(named={"BTCUSDT": at, "ETHUSDT": at})
    read = _read(
        {"match": {"name": " *usdt", "quote": "usdt", "exclude": ["eth*"]}, "intervals": ["1M"]}
    )
    match = Match(name="*USDT", quote="USDT", exclude=["ETH*"])
    assert read == Selection(matched={match: frozenset({Interval.MO1})})


def test_all_stands_for_the_intervals_of_the_venue() -> None:
    """It is read as such, and written again; 1s, which only spot has, must be named."""
    read = _read({"symbols": ["BTCUSDT"], "intervals": "all"})
    assert read.named["BTCUSDT"] == USDM.intervals
    assert write(read, USDM).subscriptions[0].intervals == "all"
    assert write(read, SPOT).subscriptions[0].intervals == "all"
    spot = Selection(named={"BTCUSDT": frozenset(Interval)})
    [written] = write(spot, SPOT).subscriptions
    assert written.intervals == [each.value for each in Interval]
    assert SetReader(venue=SPOT).selection(write(spot, SPOT)) == spot


def test_an_exception_at_all_intervals_includes_those_that_must_be_named() -> None:
    """Whatever a pattern wants of spot, nothing of the excepted symbol is left."""
    body = (
        b'{"subscriptions": [{"match": {"name": "*"}, "intervals": ["1s", "1m"]}],'
        b' "exclude": [{"symbols": ["BTCUSDT"], "intervals": "all"}]}'
    )
    read = SetReader(venue=SPOT).selection(msgspec.json.decode(body, type=SubscriptionSet))
    assert read.excluded == {"BTCUSDT": SPOT.intervals}
    assert write(read, SPOT).exclude[0].intervals == "all"


def test_entries_from_the_configuration_are_ignored() -> None:
    """So that the answer to GET can be PUT."""
    wanted = {"symbols": ["NEVERMIND"], "intervals": ["1m"], "from": "configuration"}
    assert _read(wanted) == Selection()


def test_names_that_are_present_are_accepted() -> None:
    """A vanished symbol or contract type can be named as long as the set contains it."""
    at = frozenset({Interval.M1})
    present = Selection(
        named={"GONE": at},
        matched={Match(contract="CURRENT_QUARTER"): at},
        excluded={"GONETOO": at},
    )
    reader = SetReader(venue=USDM, listings=LISTINGS, present=present)
    assert reader.selection(write(present, USDM)) == present
    with pytest.raises(InvalidRequest, match=r"GONE(TOO)? does not exist"):
        READER.selection(write(present, USDM))


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        ({"symbols": ["XUSDT"], "intervals": ["1m"]}, "subscriptions[0].symbols[0]: XUSDT"),
        ({"symbols": [], "intervals": ["1m"]}, "subscriptions[0].symbols: the list is empty"),
        ({"symbols": [" "], "intervals": ["1m"]}, "subscriptions[0].symbols[0]: the name is empty"),
        ({"symbols": ["BTCUSDT"], "intervals": []}, "subscriptions[0].intervals: the list is"),
        (
            {"symbols": ["BTCUSDT"], "intervals": ["1m", "1s"]},
            "subscriptions[0].intervals[1]: '1s'",
        ),
        ({"symbols": ["BTCUSDT"], "intervals": ["ALL"]}, "subscriptions[0].intervals[0]: 'ALL'"),
        ({"intervals": ["1m"]}, "subscriptions[0]: expected symbols or match"),
        (
            {"symbols": ["BTCUSDT"], "match": {}, "intervals": ["1m"]},
            "subscriptions[0]: expected symbols or match, and not both",
        ),
        ({"match": {"name": ""}, "intervals": "all"}, "subscriptions[0].match.name: the name is"),
        (
            {"match": {"name": "*", "exclude": ["A", " "]}, "intervals": "all"},
            "subscriptions[0].match.exclude[1]: the name is empty",
        ),
        (
            {"match": {}, "intervals": "all"},
            (
                "subscriptions[0].match: it has no name, quote or contract;"
                ' for the whole market write {"name": "*"}'
            ),
        ),
        (
            {"match": {"quote": " ", "exclude": ["B*"]}, "intervals": "all"},
            "subscriptions[0].match: it has no name, quote or contract",
        ),
        (
            {"match": {"name": "BTC[US"}, "intervals": "all"},
            "subscriptions[0].match.name: 'BTC[US' has an unpaired or empty bracket",
        ),
        (
            {"match": {"name": "*", "exclude": ["B*", "[]*"]}, "intervals": "all"},
            "subscriptions[0].match.exclude[1]: '[]*' has an unpaired or empty bracket",
        ),
        (
            {"match": {"quote": "USDX"}, "intervals": "all"},
            "subscriptions[0].match.quote: USDX does not exist on usdm; there are USDT",
        ),
        (
            {"match": {"contract": "PERP"}, "intervals": "all"},
            "subscriptions[0].match.contract: PERP does not exist on usdm; there are PERPETUAL",
        ),
    ],
)
def test_what_is_wrong_is_named(wanted: object, error: str) -> None:
    """The error begins with the path to the field."""
    with pytest.raises(InvalidRequest) as raised:
        _read(wanted)
    assert str(raised.value).startswith(error)


@pytest.mark.parametrize("name", ["[AB]*", "[!AB]TC", "*[0-9]", "[A][B]?", "*"])
def test_patterns_with_complete_brackets_are_accepted(name: str) -> None:
    """They may match nothing, which is no error."""
    at = frozenset({Interval.M1})
    read = _read({"match": {"name": name}, "intervals": ["1m"]})
    assert read == Selection(matched={Match(name=name): at})


@pytest.mark.parametrize("name", ["BTC[US", "BTC]", "[]", "[!]", "[[A]]", "A[B]C["])
def test_patterns_with_incomplete_brackets_are_refused(name: str) -> None:
    """They would match literally, and no symbol has brackets; present ones may stay or go."""
    wanted = {"match": {"name": name}, "intervals": ["1m"]}
    with pytest.raises(InvalidRequest, match=r"write \[ab\] for a or b"):
        _read(wanted)
    present = Selection(matched={Match(name=name): frozenset({Interval.M1})})
    reader = SetReader(venue=USDM, listings=LISTINGS, present=present)
    assert reader.selection(write(present, USDM)) == present


def test_a_circumflex_does_not_negate() -> None:
    """In regular expressions it does; here it is one more character to match."""
    with pytest.raises(InvalidRequest, match=r"write \[!ab\]"):
        _read({"match": {"name": "[^B]*"}, "intervals": ["1m"]})


def test_the_whole_market_is_requested_by_name() -> None:
    """With a quote asset no name is required."""
    at = frozenset({Interval.M1})
    read = _read({"match": {"name": "*", "exclude": ["B*"]}, "intervals": ["1m"]})
    assert read == Selection(matched={Match(exclude=["B*"]): at})
    read = _read({"match": {"quote": "USDT"}, "intervals": ["1m"]})
    assert read == Selection(matched={Match(quote="USDT"): at})


def test_exceptions_are_checked_as_strictly() -> None:
    """They name symbols and intervals, too."""
    with pytest.raises(InvalidRequest, match=r"exclude\[0\]\.symbols\[0\]: XUSDT does not exist"):
        _read(
            {"match": {"name": "*"}, "intervals": "all"},
            [{"symbols": ["XUSDT"], "intervals": ["1m"]}],
        )


@pytest.mark.parametrize(
    "wanted",
    [
        {"symbols": ["BTCUSDT"], "intervals": ["1m"], "exclude": []},
        {"match": {"names": "*"}, "intervals": "all"},
        {"match": {"name": "*" * (LONGEST_NAME + 1)}, "intervals": "all"},
        {"symbols": ["BTCUSDT"], "intervals": "some"},
        {"symbols": "BTCUSDT", "intervals": ["1m"]},
        {"symbols": ["BTCUSDT"], "intervals": ["1m"], "from": "elsewhere"},
        None,
    ],
)
def test_what_is_not_a_subscription_at_all(wanted: object) -> None:
    """A misspelt field is not ignored."""
    with pytest.raises(msgspec.ValidationError):
        _read(wanted)
