"""A letter a day, held against a look at every candle."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from klineagent.api.dashboard.covered_days import asked_days
from klineagent.api.dashboard.days import DaysOfSeries, days_of
from klineagent.api.models.overview import DaysQuery
from klineagent.core.errors import InvalidRequest
from klineagent.core.interval import DAY_MS, HOUR_MS, SECOND_MS, Interval
from klineagent.exchange.venues import SPOT
from klineagent.series.ledger import Ledger
from klineagent.series.marks import Absence, Absent, Missing, Urgency
from klineagent.series.statistics import CandleState, candle_state_of
from klineagent.testing.simulation import Simulation, open_simulation

DAY = 20_485  # Sunday, 2026-02-01
START_MS = DAY * DAY_MS
GRACE_MS = 5 * SECOND_MS


def _by_every_candle(ledger: Ledger, first_day: int, days: int, now_ms: int) -> DaysOfSeries:
    """The same, by asking for the state of each candle that a day has to do with."""
    letters, counted = "", {"missing": set[int](), "absent": set[int](), "healed": set[int]()}
    interval = ledger.interval
    for day in range(first_day, first_day + days):
        open_ms, letter = interval.open_at(day * DAY_MS), "-"
        found: set[str] = set()
        while open_ms < (day + 1) * DAY_MS:
            state = candle_state_of(ledger, open_ms, now_ms)
            if state not in {CandleState.NOT_COVERED, CandleState.FUTURE}:
                found.add("c")
            loss = ledger.losses.at(open_ms)
            if loss is not None and loss.came_ms is not None:
                found.add("h")
                counted["healed"].add(open_ms)
            if state is CandleState.ABSENT:
                found.add("a")
                counted["absent"].add(open_ms)
            if (gap := ledger.gaps.at(open_ms)) is not None:
                found.add("g" if gap.mark.error else "f")
                counted["missing"].add(open_ms)
            open_ms = interval.next_open(open_ms)
        if day <= now_ms // DAY_MS:
            letter = next((each for each in "gfahc" if each in found), "-")
        letters += letter
    return DaysOfSeries(letters, *(len(each) for each in counted.values()))


@given(
    st.sampled_from(
        [Interval.H1, Interval.H8, Interval.D1, Interval.D3, Interval.W1, Interval.MO1]
    ),
    st.data(),
)
def test_a_look_at_every_candle_finds_the_same(interval: Interval, data: st.DataObject) -> None:
    """Whatever was lost, came, does not exist or failed, and whichever days are asked for."""
    hours = st.integers(-20 * 24, 12 * 24)
    ledger = Ledger(interval, GRACE_MS)
    now_ms = START_MS
    if data.draw(st.booleans()):
        ledger.begin(now_ms)
    for _ in range(data.draw(st.integers(0, 8)) if ledger.has_begun else 0):
        first_ms, end_ms = sorted(
            interval.open_at(START_MS + data.draw(hours) * HOUR_MS) for _ in range(2)
        )
        match data.draw(st.sampled_from(["history", "lost", "absent", "fail", "come", "tick"])):
            case "history":
                ledger.expect(first_ms, end_ms, Missing(Urgency.HISTORY))
            case "lost":
                ledger.reopen(first_ms, now_ms=now_ms)
            case "absent":
                ledger.give_up(first_ms, end_ms, Absence(Absent.NO_CANDLE))
            case "fail":
                ledger.fail(first_ms, end_ms, "no answer")
            case "come":
                while first_ms < min(end_ms, ledger.horizon_ms):
                    ledger.close(first_ms, now_ms=now_ms)
                    first_ms = interval.next_open(first_ms)
            case _:
                now_ms += data.draw(st.integers(0, 48)) * HOUR_MS
                ledger.fall_due(now_ms)
    ledger.fall_due(now_ms)
    first_day, days = DAY + data.draw(st.integers(-25, 10)), data.draw(st.integers(1, 20))
    expected = _by_every_candle(ledger, first_day, days, now_ms)
    assert days_of(ledger, first_day, days, now_ms) == expected


def test_a_day_that_a_file_filled_may_lie_before_the_ledger() -> None:
    """Before it has begun, too; of a day with a gap the gap counts."""
    ledger = Ledger(Interval.H1, GRACE_MS)
    imported = [(START_MS - 2 * DAY_MS, START_MS), (START_MS + DAY_MS, START_MS + 3 * DAY_MS)]
    assert days_of(ledger, DAY - 3, 6, START_MS, imported).letters == "-ii-ii"
    ledger.begin(START_MS)
    for hour in range(3 * 24):
        if hour != 30:
            ledger.close(START_MS + hour * HOUR_MS, now_ms=0)
    now_ms = START_MS + 3 * DAY_MS + HOUR_MS
    ledger.fall_due(now_ms)
    assert days_of(ledger, DAY - 3, 7, now_ms, imported).letters == "-iicfic"


@pytest.mark.parametrize(
    ("query", "first", "days"),
    [
        (DaysQuery(), DAY - 29, 30),
        (DaysQuery(from_="2026-01-31"), DAY - 1, 2),
        (DaysQuery(to="2026-01-31"), DAY - 31, 30),
        (DaysQuery(from_="2026-01-31", to="2026-02-05"), DAY - 1, 5),
    ],
)
def test_days_that_are_not_named_are_the_last_ones(query: DaysQuery, first: int, days: int) -> None:
    """The day called `to` is not one of them."""
    assert asked_days(query, DAY) == (first, days)


@pytest.mark.parametrize(
    "query",
    [
        DaysQuery(from_="yesterday"),
        DaysQuery(from_="2026-02-05", to="2026-02-05"),
        DaysQuery(from_="2024-02-05"),
        DaysQuery(to="2026-13-01"),
        DaysQuery(to="0001-01-01"),
        DaysQuery(to="9999-12-31"),
    ],
)
def test_days_that_make_no_sense_are_refused(query: DaysQuery) -> None:
    """With what is wrong about them."""
    with pytest.raises(InvalidRequest, match=r"from|to"):
        asked_days(query, DAY)


async def _days(simulation: Simulation, query: str) -> Any:
    answer = await simulation.agent.command.test_client().get(f"/v1/coverage/days?{query}")
    assert answer.status_code == 200, await answer.get_data()
    return await answer.get_json()


async def test_a_gap_shows_on_its_day_and_heals(autojump_clock: MockClock) -> None:
    """The running day says that candles were lost; the one before, history, was never lost."""
    async with open_simulation(
        symbols=["BTCUSDT", "spot:ETHUSDT"],
        intervals=[Interval.M1],
        beside=[SPOT],
        history=60,
    ) as simulation:
        await trio.sleep(130)
        asked = "from=2026-01-30&to=2026-02-03&limit=1"
        found = await _days(simulation, asked)
        assert (found["from"], found["days"], found["total"]) == ("2026-01-30", 4, 2)
        assert found["series"] == [{"symbol": "BTCUSDT", "interval": "1m", "days": "-cc-"}]
        more = await _days(simulation, f"{asked}&after={found['next']}")
        assert more["next"] is None
        [series] = more["series"]
        assert (series["symbol"], series["venue"]) == ("spot:ETHUSDT", "spot")
        assert (await _days(simulation, "venue=spot"))["total"] == 1
        assert (await _days(simulation, "interval=5m"))["total"] == 0
        with simulation.exchange.offline():
            await trio.sleep(150)
            [series] = (await _days(simulation, "symbol=BTCUSDT&to=2026-02-02"))["series"]
            assert series["days"][-1] in "fg"
            assert series["missing"] == 2
        await trio.sleep(120)
        [series] = (await _days(simulation, "symbol=BTCUSDT&to=2026-02-02"))["series"]
        assert series["days"] == "-" * 28 + "ch"
        assert series["healed"] in {2, 3}


async def test_no_days_are_reported_before_the_time_is_known(autojump_clock: MockClock) -> None:
    """Without the exchange's time there is no today."""
    async with open_simulation(symbols=["BTCUSDT"], intervals=[Interval.M1]) as simulation:
        reckoning = simulation.agent.venues.main.context.time.reckoning
        reckoning.is_known = False
        answer = await simulation.agent.command.test_client().get("/v1/coverage/days")
        reckoning.is_known = True
        assert answer.status_code == 503
        assert b"time of the exchange" in await answer.get_data()
