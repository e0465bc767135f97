"""The bars of reading beside the recording."""

from __future__ import annotations

from msgspec.structs import replace

from klineagent.bench.figures import AgentFigures, Spread
from klineagent.bench.outcome import Bar
from klineagent.bench.reading.closes import Closes
from klineagent.bench.reading.documents import Documents
from klineagent.bench.reading.fan_out import Delivered
from klineagent.bench.reading.reading import Read, bars_of
from klineagent.bench.workload import Workload
from tests.bench.operation.test_operation import ANSWERS, QUIET

LOAD = Workload(symbols=600, rate="200000", seconds=10, requests=200)
LEFT_AT = 1_000.0
CLOSES = Closes(
    asked=80,
    with_closed=80,
    pairs_ms=Spread(80, 200.0, 700.0, 700.0),
    rest_ms=Spread(5, 20.0, 30.0, 30.0),
    stream_ms=Spread(160, 20.0, 40.0, 45.0),
)


def some_runs(**changed: AgentFigures) -> dict[str, AgentFigures]:
    """Windows in which the agent takes 4 % of a core more than left alone."""
    beside = replace(QUIET, cpu_s=QUIET.cpu_s + 0.4, missing=0)
    names = "klines", "closes", "streams", "documents"
    leaves = replace(beside, last_read_at=LEFT_AT + 0.25)
    runs = {"left alone": QUIET, **dict.fromkeys(names, beside), "a client leaves": leaves}
    return {**runs, **changed}


def some_reads(**changed: object) -> Read:
    """All bars are held."""
    values: dict[str, object] = {
        "klines": replace(ANSWERS, took_ms=Spread(2_000, 1.0, 15.0, 40.0)),
        "closes": CLOSES,
        "delivered": Delivered(clients=100, messages=200_000, seconds=10, cut=0, cpu_s=1),
        "documents": Documents(took_s={"arrow": [2.0, 2.5, 9.0], "parquet": [3.0]}, megabytes={}),
        "growth": 150_000_000,
        "left_at": LEFT_AT,
        **changed,
    }
    return Read(**values)  # type: ignore[arg-type]


def by_name(bars: list[Bar]) -> dict[str, Bar]:
    """The bars by what they are of."""
    return {bar.what: bar for bar in bars}


def test_cpu_is_what_the_readers_add() -> None:
    """4 % of a core are 0.2 ms of a request at 200 a second, and 2 us of 20,000 messages."""
    bars = by_name(bars_of(LOAD, some_runs(), some_reads()))
    assert [bar.what for bar in bars.values() if not bar.is_met] == []
    assert round(bars["klines, % of a core"].seen or 0, 3) == 4
    assert round(bars["klines, CPU ms a request"].seen or 0, 3) == 0.2
    assert round(bars["stream, CPU us a message"].seen or 0, 3) == 2


def test_the_median_of_documents_counts() -> None:
    """One that was slow for lack of a core says nothing of the agent."""
    bars = by_name(bars_of(LOAD, some_runs(), some_reads()))
    assert bars["Arrow document, s"].seen == 2.5
    assert bars["client left to the end of its query, s"].seen == 0.25


def test_a_query_that_goes_on_after_its_client_left_misses_its_bar() -> None:
    """So does one that was never seen."""
    for last_read_at in (LEFT_AT + 1.5, None):
        leaves = replace(some_runs()["a client leaves"], last_read_at=last_read_at)
        bars = by_name(bars_of(LOAD, some_runs(**{"a client leaves": leaves}), some_reads()))
        assert not bars["client left to the end of its query, s"].is_met


def test_an_answer_without_the_closed_candle_misses_a_bar() -> None:
    """However quick it was; without closes there are no such bars."""
    closes = replace(CLOSES, with_closed=79)
    bars = by_name(bars_of(LOAD, some_runs(), some_reads(closes=closes)))
    assert not bars["answers at a close with its candle"].is_met
    without = by_name(bars_of(LOAD, some_runs(), some_reads(closes=None)))
    assert "answers at a close with its candle" not in without


def test_recording_must_go_on_in_each_window() -> None:
    """The worst one counts."""
    documents = replace(
        QUIET, messages=1_900_000, insert_age_ms=Spread(20, 60.0, 161.0, 161.0), closed=3, found=2
    )
    bars = by_name(bars_of(LOAD, some_runs(documents=documents), some_reads()))
    missed = [bar.what for bar in bars.values() if not bar.is_met]
    assert "% of what is sent, at least" in missed
    assert "documents: age of the newest row p99, ms more" in missed
    assert "candles closed and not found" in missed
