"""The bars of recording under HTTP load."""

from __future__ import annotations

from msgspec.structs import replace

from klineagent.bench.figures import AgentFigures, Answers, Spread
from klineagent.bench.operation.operation import bars_of
from klineagent.bench.workload import Workload
from tests.bench.test_figures import some_figures

LOAD = Workload(symbols=600, rate="200000", seconds=10, requests=200)
ANSWERS = Answers(
    seconds=10,
    asked=2_000,
    answered=2_000,
    errors={},
    took_ms=Spread(2_000, 3.0, 40.0, 90.0),
    kinds={},
    begun_late_ms=None,
    cpu_s=1.0,
)
QUIET = replace(
    some_figures(),
    lag_ms=Spread(1_000, 1.0, 5.0, 9.0),
    insert_age_ms=Spread(20, 30.0, 60.0, 60.0),
    close_to_stored_ms=Spread(600, 500.0, 900.0, 900.0),
)


def missed(asked: AgentFigures, answers: Answers) -> list[str]:
    """The bars that are missed."""
    return [bar.what for bar in bars_of(LOAD, QUIET, asked, answers) if not bar.is_met]


def test_an_agent_that_records_as_before_meets_all_bars() -> None:
    """A little later is within the bar: rows are batched for much longer."""
    asked = replace(QUIET, insert_age_ms=Spread(20, 45.0, 150.0, 150.0))
    assert missed(asked, ANSWERS) == []


def test_slow_lost_and_failed_answers_miss_a_bar() -> None:
    """Each has a bar of its own."""
    answers = replace(
        ANSWERS, answered=1_979, errors={"/status: 500": 1}, took_ms=Spread(2_000, 3.0, 51.0, 90.0)
    )
    assert missed(QUIET, answers) == [
        "requests that failed",
        "requests a second",
        "requests p99, ms",
    ]


def test_an_agent_that_falls_behind_misses_bars() -> None:
    """Those of received frames, of event-loop lag and of the age of stored rows."""
    asked = replace(
        QUIET,
        messages=1_900_000,
        lag_ms=Spread(1_000, 1.0, 21.0, 30.0),
        insert_age_ms=Spread(20, 131.0, 161.0, 161.0),
    )
    assert missed(asked, ANSWERS) == [
        "% of what is sent",
        "event-loop lag p99, ms",
        "age of the newest row p50, ms more",
        "age of the newest row p99, ms more",
    ]


def test_the_wait_of_closed_candles_is_shown_without_a_bar() -> None:
    """In one minute it is mostly luck; None without a minute's end in the window."""
    asked = replace(QUIET, close_to_stored_ms=Spread(600, 300.0, 1_000.0, 1_000.0))
    seen = {bar.what: bar.seen for bar in bars_of(LOAD, QUIET, asked, ANSWERS)}
    assert seen["close to stored p50, ms more"] == -200
    assert seen["close to stored p99, ms more"] == 100
    asked = replace(QUIET, close_to_stored_ms=None)
    seen = {bar.what: bar.seen for bar in bars_of(LOAD, QUIET, asked, ANSWERS)}
    assert seen["close to stored p99, ms more"] is None
