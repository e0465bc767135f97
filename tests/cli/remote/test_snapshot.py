from __future__ import annotations

import pytest
from attrs import evolve
from msgspec.structs import replace

from klineagent.cli.remote.snapshot import Snapshot, events_between
from tests.cli.remote.answers import (
    AWAY,
    BEHIND,
    FEED,
    LIMITS,
    LOST,
    SERIES,
    STANDING_DOWN,
    a_snapshot,
)

USUAL = a_snapshot()
PAUSING = replace(LIMITS, rest=replace(LIMITS.rest, standing_down_seconds=0.3))
SPOT_FEED = replace(FEED, venue="spot")
MANY = tuple(replace(BEHIND, symbol=f"A{number}USDT") for number in range(60))


@pytest.mark.parametrize(
    ("before", "after", "events"),
    [
        (USUAL, USUAL, []),
        (USUAL, a_snapshot(symbols=3), ["added 1 symbol"]),
        (a_snapshot(symbols=8), USUAL, ["removed 6 symbols"]),
        (USUAL, a_snapshot(behind=MANY), ["candles are missing in 60 series"]),
        (a_snapshot(behind=MANY), a_snapshot(behind=MANY[::-1]), []),
        (
            USUAL,
            a_snapshot(feeds=(LOST,)),
            ["feed 1 was lost: closed by the exchange: [1001]", "feed 1 is down"],
        ),
        (
            a_snapshot(feeds=(LOST,)),
            a_snapshot(feeds=(replace(LOST, state="up"),)),
            ["feed 1 is up"],
        ),
        (USUAL, a_snapshot(feeds=(replace(FEED, replaced=1),)), ["feed 1 was replaced"]),
        (
            USUAL,
            a_snapshot(feeds=(FEED, replace(FEED, number=2, state="taking_over"))),
            ["feed 2 is taking over"],
        ),
        (USUAL, a_snapshot(feeds=()), ["feed 1 is gone"]),
        (USUAL, a_snapshot(feeds=(FEED, SPOT_FEED)), ["feed spot 1 is up"]),
        (a_snapshot(feeds=(FEED, SPOT_FEED)), USUAL, ["feed spot 1 is gone"]),
        (
            USUAL,
            a_snapshot(feeds=(replace(FEED, replaced=1), SPOT_FEED)),
            ["feed usdm 1 was replaced", "feed spot 1 is up"],
        ),
        (USUAL, a_snapshot(behind=(BEHIND,)), ["candles are missing in BTCUSDT 1m"]),
        (
            a_snapshot(behind=(BEHIND,)),
            a_snapshot(behind=(replace(SERIES, lag_seconds=60.0),)),
            ["no candle is missing any more in BTCUSDT 1m"],
        ),
        (
            USUAL,
            a_snapshot(limits=STANDING_DOWN),
            ["no REST request for 90s: the exchange asked for a pause, or requests failed"],
        ),
        (USUAL, a_snapshot(limits=PAUSING), []),
        (a_snapshot(limits=STANDING_DOWN), a_snapshot(limits=PAUSING), []),
        (
            a_snapshot(limits=PAUSING),
            a_snapshot(limits=STANDING_DOWN),
            ["no REST request for 90s: the exchange asked for a pause, or requests failed"],
        ),
        (a_snapshot(limits=STANDING_DOWN), a_snapshot(limits=STANDING_DOWN), []),
        (USUAL, a_snapshot(storage=AWAY), ["the database takes no rows: no answer"]),
        (a_snapshot(storage=AWAY), a_snapshot(storage=AWAY), []),
        (a_snapshot(storage=AWAY), USUAL, ["the database takes rows again"]),
    ],
)
def test_what_happened_between_two_moments(
    before: Snapshot, after: Snapshot, events: list[str]
) -> None:
    """Changes of the set, of feeds, of what is missing, of what exchange and database allow."""
    assert list(events_between(before, after)) == events


def test_an_agent_that_is_not_ready_says_why() -> None:
    """Once, and when it is ready again."""
    waiting = evolve(USUAL, reasons=("feed 1 is not connected",))
    assert [*events_between(USUAL, waiting)] == ["not ready: feed 1 is not connected"]
    assert [*events_between(waiting, waiting)] == []
    assert [*events_between(waiting, USUAL)] == ["ready"]
