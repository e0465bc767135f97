"""The requests sent to an agent."""

from __future__ import annotations

import json
from collections import Counter
from itertools import islice, pairwise

from klineagent.bench.operation.questions import SHARES, Question, Topics, questions
from klineagent.core.interval import Interval

TOPICS = Topics(
    command="127.0.0.1:1",
    status="127.0.0.1:2",
    symbols=("BTCUSDT", "ETHUSDT"),
    spare_symbol="SOLUSDT",
    intervals=(Interval.M1, Interval.M5),
    open_time="2027-02-02T00:01:00Z",
)
ROUND = sum(SHARES.values())


def first(number: int) -> list[Question]:
    """The first questions."""
    return list(islice(questions(TOPICS), number))


def test_shares_add_up_to_two_hundred() -> None:
    """At 200 requests a second a share is a rate: metrics are read once a second."""
    assert ROUND == 200
    kinds = Counter(question.kind for question in first(ROUND))
    assert kinds["status /metrics"] == kinds["/connections/list"] == 1
    assert kinds["status /ping"] == kinds["/status"] == 40
    assert sum(kinds.values()) == ROUND


def test_a_kind_is_spread_evenly() -> None:
    """A fifth are pings, never with ten others in a row."""
    kinds = [question.kind for question in first(2 * ROUND)]
    pings = [number for number, kind in enumerate(kinds) if kind == "status /ping"]
    assert max(later - earlier for earlier, later in pairwise(pings)) <= 10


def test_questions_about_data_take_each_symbol_in_turn() -> None:
    """So no answer comes from a cache."""
    asked = [question.url for question in first(ROUND) if question.kind == "/v1/coverage"]
    assert asked[:3] == [
        f"http://{TOPICS.command}/v1/coverage?symbol={symbol}"
        for symbol in ("BTCUSDT", "ETHUSDT", "BTCUSDT")
    ]


def test_an_added_stream_is_removed_before_the_next_is_added() -> None:
    """The streams are those of the spare symbol, each interval in turn."""
    commands = [
        (question.kind, json.loads(question.body))
        for question in first(4 * ROUND)
        if question.body is not None
    ]
    assert commands == [
        (f"/streams/{verb}", {"symbol": "SOLUSDT", "interval": interval})
        for interval in ("1m", "5m")
        for verb in ("add", "remove")
    ]
