"""Requests at fixed moments."""

from __future__ import annotations

import math

import httpx2
import pytest
import trio
from trio.testing import MockClock

from klineagent.bench.figures import Answers
from klineagent.bench.operation.load_generator import PATIENCE_S, Caller, Calling
from tests.bench.operation.test_questions import TOPICS


class Agent:
    """Answers each request after so long, and fails where it is told to."""

    def __init__(self, takes_s: float, failing: str = "") -> None:
        self.takes_s = takes_s
        self.failing = failing
        self.asked_at: list[float] = []

    async def answer(self, request: httpx2.Request) -> httpx2.Response:
        self.asked_at.append(trio.current_time())
        await trio.sleep(self.takes_s)
        if request.url.path == self.failing:
            return httpx2.Response(500)
        if request.url.path == "/v1/why":
            raise httpx2.RemoteProtocolError("hung up", request=request)
        return httpx2.Response(200)

    async def asked(self, calling: Calling) -> Answers:
        def open_client() -> httpx2.AsyncClient:
            return httpx2.AsyncClient(transport=httpx2.MockTransport(self.answer))

        return await Caller(calling, open_client).run()


def calling(*, seconds: float, warm_up_s: float = 0) -> Calling:
    """Ten requests a second."""
    return Calling(topics=TOPICS, per_s=10, warm_up_s=warm_up_s, seconds=seconds)


async def test_nobody_waits_for_the_answer_to_another(autojump_clock: MockClock) -> None:
    """Ten are asked a second, though each takes three; the rate is that of the answers."""
    agent = Agent(takes_s=3)
    answers = await agent.asked(calling(seconds=1))
    began = agent.asked_at[0]
    assert agent.asked_at == pytest.approx([began + number / 10 for number in range(10)])
    assert answers.asked == 10
    assert answers.seconds == pytest.approx(3.9)
    took = answers.took_ms
    assert took is not None
    assert (took.p50, took.max) == (3000, 3000)


async def test_what_is_asked_before_the_window_is_not_measured(autojump_clock: MockClock) -> None:
    """Connections are made then, and caches filled."""
    agent = Agent(takes_s=0.01)
    answers = await agent.asked(calling(seconds=1, warm_up_s=2))
    assert len(agent.asked_at) == 30
    assert answers.asked == 10
    assert sum(spread.count for spread in answers.kinds.values()) == 10
    assert answers.seconds == 1


async def test_failures_are_counted_by_what_happened(autojump_clock: MockClock) -> None:
    """A status that is none of success, or no answer; neither counts as answered."""
    answers = await Agent(takes_s=0.01, failing="/status").asked(calling(seconds=20))
    assert answers.errors == {"/status: 500": 40, "/v1/why: hung up": 10}
    assert answers.asked == 200
    assert answers.answered == 150
    assert answers.per_s == 7.5
    assert answers.took_ms is not None
    assert answers.took_ms.count == 200


async def test_patience_begins_when_a_request_is_due(autojump_clock: MockClock) -> None:
    """Who has waited for a connection has less of it left."""
    agent = Agent(takes_s=math.inf)
    began = trio.current_time()
    answers = await agent.asked(calling(seconds=8))
    assert trio.current_time() - began == pytest.approx(7.9 + PATIENCE_S)
    assert answers.answered == 0
    assert sum(answers.errors.values()) == answers.asked == 80
    assert {each.partition(": ")[2] for each in answers.errors} == {"no answer within 10 s"}
    late = answers.begun_late_ms
    assert late is not None
    assert late.max > 1_000
