"""The forecast of a change."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klineagent.core.interval import DAY_MS, MINUTE_MS, Interval
from klineagent.exchange.venues import (
    COINM,
    DIALS_PER_WINDOW,
    SPOT,
    STREAMS_PER_CONNECTION,
    USDM,
    Venue,
)
from klineagent.series.desired.forecast import (
    Occupancy,
    Placement,
    history,
    place,
    rows_per_day,
    subscribe_s,
)
from klineagent.series.desired.selection import SeriesSet, in_order

NOW_MS = 1_769_904_000_000
_connections = st.builds(
    lambda staying, leaving: Occupancy(
        staying, leaving, STREAMS_PER_CONNECTION - staying - leaving
    ),
    st.integers(0, STREAMS_PER_CONNECTION // 2),
    st.integers(0, STREAMS_PER_CONNECTION // 2),
)


@given(st.lists(_connections, max_size=5), st.integers(0, 5 * STREAMS_PER_CONNECTION))
def test_every_stream_has_a_place_and_no_connection_is_superfluous(
    connections: list[Occupancy], added: int
) -> None:
    """Room on existing connections is used before another is dialled."""
    placement = place(connections, added)
    room = sum(connection.room for connection in connections)
    assert placement.dials == -(-max(0, added - room) // STREAMS_PER_CONNECTION)
    staying = sum(connection.staying > 0 for connection in connections)
    assert staying <= placement.connections - placement.dials <= len(connections)
    assert placement.requests <= 2 * 5
    assert place(connections, 0).dials == 0


def test_a_market_from_nothing() -> None:
    """9,000 streams: nine connections, five messages each."""
    assert place([], 9_000) == Placement(connections=9, dials=9, requests=5)
    assert place([], 0) == Placement(connections=0, dials=0, requests=0)
    # A connection that is emptied is closed; one that is emptied and filled again is not.
    assert place([Occupancy(0, 7, 993)], 0).connections == 0
    assert place([Occupancy(0, 7, 993)], 1) == Placement(connections=1, dials=0, requests=2)


@pytest.mark.parametrize(
    ("placement", "taken", "seconds"),
    [
        (Placement(connections=9, dials=9, requests=5), 0, 1.0),
        (Placement(connections=9, dials=0, requests=0), 299, 0.0),
        (Placement(connections=9, dials=9, requests=5), DIALS_PER_WINDOW, 301.0),
        (Placement(connections=1000, dials=1000, requests=5), 0, 901.0),
    ],
)
def test_the_time_follows_from_the_limits(placement: Placement, taken: int, seconds: float) -> None:
    """So many messages a second, and so many dials in five minutes."""
    assert subscribe_s(placement, USDM, taken) == seconds


@pytest.mark.parametrize(
    ("venue", "interval", "candles", "weight"),
    [
        (USDM, Interval.M1, 0, 0),
        (USDM, Interval.M1, 50, 1),
        (USDM, Interval.M1, 498, 2),
        (USDM, Interval.M1, 500, 3),
        (SPOT, Interval.M1, 1_000, 2),
        (SPOT, Interval.S1, 1_001, 4),
        (COINM, Interval.D1, 500, 5),
    ],
)
def test_history_is_paid_by_the_page(
    venue: Venue, interval: Interval, candles: int, weight: int
) -> None:
    """As the backfill requests it: with one candle more for proof, within a venue's window."""
    series = {symbol: frozenset({interval}) for symbol in ("A", "B", "C")}
    assert history(series, venue, now_ms=NOW_MS, candles=candles, listed_ms=lambda _: 0) == (
        3 * candles,
        3 * weight,
    )


def test_before_the_listing_there_is_no_history() -> None:
    """A symbol listed ten minutes ago has ten candles, however many are configured."""
    listed_ms = {"NEW": NOW_MS - 10 * MINUTE_MS, "SOON": NOW_MS + DAY_MS}
    for symbol, expected in (("NEW", (10, 1)), ("SOON", (0, 0))):
        series = {symbol: frozenset({Interval.M1})}
        found = history(series, USDM, now_ms=NOW_MS, candles=500, listed_ms=listed_ms.__getitem__)
        assert found == expected


@given(
    st.dictionaries(
        st.integers(-10, 700_000), st.frozensets(st.sampled_from(sorted(USDM.intervals, key=str)))
    )
)
def test_the_history_of_many_is_the_sum_of_each(
    intervals_by_age: dict[int, frozenset[Interval]],
) -> None:
    """Whatever their age in minutes; old symbols are not computed one by one."""
    ages = {f"S{minutes}": minutes for minutes in intervals_by_age}
    added = {f"S{minutes}": each for minutes, each in intervals_by_age.items()}

    def ask(series: SeriesSet) -> tuple[int, int]:
        return history(
            series,
            USDM,
            now_ms=NOW_MS,
            candles=500,
            listed_ms=lambda symbol: NOW_MS - ages[symbol] * MINUTE_MS,
        )

    alone = [ask({symbol: frozenset({interval})}) for symbol, interval in in_order(added)]
    assert ask(added) == (sum(each for each, _ in alone), sum(each for _, each in alone))


def test_a_days_rows() -> None:
    """Closed candles, of long intervals as fractions of a day."""
    at_all = {"A": USDM.intervals}
    assert rows_per_day(at_all) == pytest.approx(2_404.51, abs=0.01)
    assert rows_per_day({"A": frozenset({Interval.W1})}) == pytest.approx(1 / 7)
    assert rows_per_day({"A": frozenset({Interval.MO1})}) == pytest.approx(12 / 365.25, rel=1e-3)
    assert rows_per_day({}) == 0
