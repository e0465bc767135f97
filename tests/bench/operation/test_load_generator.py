"""The load generator sends requests at fixed times."""

from __future__ import annotations

import math
from contextlib import AbstractAsyncContextManager

import httpx2
import pytest
import trio
from trio.testing import MockClock

from klineagent.bench.figures import Answers
from klineagent.bench.operation.load_generator import (
    PATIENCE_S,
    Ask,
    LoadGenerator,
    LoadPlan,
    asking,
)
from klineagent.bench.operation.questions import questions
from tests.bench.operation.test_questions import TOPICS


class Agent:
    """Answers each request after a delay, and fails on request."""

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

    async def asked(self, plan: LoadPlan) -> Answers:
        def open_client() -> AbstractAsyncContextManager[Ask]:
            return asking(httpx2.AsyncClient(transport=httpx2.MockTransport(self.answer)))

        servers = TOPICS.command, TOPICS.status
        return await LoadGenerator(plan, questions(TOPICS), servers, open_client).run()


def plan(*, seconds: float, warm_up_s: float = 0) -> LoadPlan:
    """Ten requests a second."""
    return LoadPlan(topics=TOPICS, per_s=10, warm_up_s=warm_up_s, seconds=seconds)


async def test_requests_do_not_wait_for_answers_to_others(autojump_clock: MockClock) -> None:
    """Ten requests a second are sent though each takes three; the rate counts answers."""
    agent = Agent(takes_s=3)
    answers = await agent.asked(plan(seconds=1))
    began = agent.asked_at[0]
    assert agent.asked_at == pytest.approx([began + number / 10 for number in range(10)])
    assert answers.asked == 10
    assert answers.seconds == pytest.approx(3.9)
    took = answers.took_ms
    assert took is not None
    assert (took.p50, took.max) == (3000, 3000)


async def test_requests_before_the_window_are_not_measured(autojump_clock: MockClock) -> None:
    """They open connections and fill caches."""
    agent = Agent(takes_s=0.01)
    answers = await agent.asked(plan(seconds=1, warm_up_s=2))
    assert len(agent.asked_at) == 30
    assert answers.asked == 10
    assert sum(spread.count for spread in answers.kinds.values()) == 10
    assert answers.seconds == 1


async def test_failures_are_counted_by_kind(autojump_clock: MockClock) -> None:
    """An error status or no answer; neither counts as answered."""
    answers = await Agent(takes_s=0.01, failing="/status").asked(plan(seconds=20))
    assert answers.errors == {"/status: 500": 40, "/v1/why: hung up": 10}
    assert answers.asked == 200
    assert answers.answered == 150
    assert answers.per_s == 7.5
    assert answers.took_ms is not None
    assert answers.took_ms.count == 200


async def test_the_time_limit_begins_when_a_request_is_due(autojump_clock: MockClock) -> None:
    """Waiting for a connection uses up part of it."""
    agent = Agent(takes_s=math.inf)
    began = trio.current_time()
    answers = await agent.asked(plan(seconds=8))
    assert trio.current_time() - began == pytest.approx(7.9 + PATIENCE_S)
    assert answers.answered == 0
    assert sum(answers.errors.values()) == answers.asked == 80
    assert {each.partition(": ")[2] for each in answers.errors} == {"no answer within 10 s"}
    late = answers.begun_late_ms
    assert late is not None
    assert late.max > 1_000
