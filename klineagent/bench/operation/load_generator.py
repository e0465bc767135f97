"""The load generator: a process that sends requests to an agent and times the answers.

    python -m klineagent.bench.operation.load_generator PLAN

It reports `ready`, waits for a line on standard input, sends requests and reports `answered` with
the results. Requests are due at fixed times, however long others take.
"""

from __future__ import annotations

import gc
import signal
import ssl
import sys
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from itertools import islice

import httpx2
import msgspec
import trio
from attrs import define, field, frozen
from msgspec import Struct

from klineagent.bench.child import emit
from klineagent.bench.figures import Answers, Spread
from klineagent.bench.operation.questions import Question, Topics, questions
from klineagent.core.errors import reason_of
from klineagent.core.interval import SECOND_MS

CONNECTIONS = 20
"""Connections to each server; waiting for a free one counts as part of a request's time."""
PATIENCE_S = 10
"""Time limit of a request, from the moment it was due."""
# Servers close connections that are idle for some seconds; the generator closes them before.
_KEPT_S = 2


class RequestRate(Struct, frozen=True, kw_only=True):
    """How often requests are sent, and for how long."""

    per_s: float
    warm_up_s: float
    """Time before the window in which requests are sent but not measured."""
    seconds: float


class LoadPlan(RequestRate, frozen=True, kw_only=True):
    """What the load generator requests, how often and for how long."""

    topics: Topics


Ask = Callable[[Question], Awaitable[str]]
"""Sends a request; returns why it failed, or an empty text."""


@frozen
class Due:
    """A question and the time at which it is due."""

    question: Question
    at: float
    is_measured: bool


@define(eq=False)
class LoadGenerator:
    """Sends requests at fixed times and collects their results."""

    _rate: RequestRate
    _questions: Iterator[Question]
    _servers: tuple[str, ...]
    """The servers that these are for."""
    _open_client: Callable[[], AbstractAsyncContextManager[Ask]]
    """Opens a client with one connection."""
    _answered: int = field(default=0, init=False)
    _errors: Counter[str] = field(factory=Counter, init=False)
    _took_ms: defaultdict[str, list[float]] = field(factory=lambda: defaultdict(list), init=False)
    _begun_late_ms: list[float] = field(factory=list, init=False)

    async def run(self) -> Answers:
        """Send all requests and return the results of those that were due in the window."""
        plan = self._rate
        window_at = trio.current_time() + plan.warm_up_s
        before = round(plan.warm_up_s * plan.per_s)
        asked = max(1, round(plan.seconds * plan.per_s))
        cpu_s = 0.0
        async with self._open_queues(before + asked) as queues:
            for number, question in enumerate(islice(self._questions, before + asked)):
                due_at = window_at + (number - before) / plan.per_s
                await trio.sleep_until(due_at)
                if number == before:
                    cpu_s = time.process_time()
                queues[question.server].send_nowait(Due(question, due_at, number >= before))
        return Answers(
            seconds=max(trio.current_time() - window_at, plan.seconds),
            asked=asked,
            answered=self._answered,
            errors=dict(self._errors),
            took_ms=Spread.of([each for times in self._took_ms.values() for each in times]),
            kinds={
                kind: spread
                for kind, times in self._took_ms.items()
                if (spread := Spread.of(times)) is not None
            },
            begun_late_ms=Spread.of(self._begun_late_ms),
            cpu_s=time.process_time() - cpu_s,
        )

    @asynccontextmanager
    async def _open_queues(
        self, room: int
    ) -> AsyncIterator[Mapping[str, trio.MemorySendChannel[Due]]]:
        """Open a queue of questions for each server; the block ends when all are answered."""
        async with trio.open_nursery() as nursery:
            queues = {}
            for server in self._servers:
                # Room for all questions: the schedule must never wait for answers.
                queues[server], waiting = trio.open_memory_channel[Due](room)
                for _ in range(CONNECTIONS):
                    nursery.start_soon(self._ask_all, waiting)
            yield queues
            for queue in queues.values():
                queue.close()

    async def _ask_all(self, waiting: trio.MemoryReceiveChannel[Due]) -> None:
        async with self._open_client() as ask:
            async for due in waiting:
                await self._ask(ask, due)

    async def _ask(self, ask: Ask, due: Due) -> None:
        begun_at, failure = trio.current_time(), f"no answer within {PATIENCE_S} s"
        with trio.move_on_at(due.at + PATIENCE_S):
            failure = await ask(due.question)
        if failure:
            self._errors[f"{due.question.kind}: {failure}"] += 1
        if due.is_measured:
            self._answered += not failure
            took_s = trio.current_time() - due.at
            self._took_ms[due.question.kind].append(took_s * SECOND_MS)
            self._begun_late_ms.append((begun_at - due.at) * SECOND_MS)


@asynccontextmanager
async def asking(client: httpx2.AsyncClient) -> AsyncIterator[Ask]:
    """Send requests with `client`, and close it."""
    async with client:
        yield partial(_failure_of, client)


async def _failure_of(client: httpx2.AsyncClient, question: Question) -> str:
    method = "GET" if question.body is None else "POST"
    try:
        answer = await client.request(method, question.url, content=question.body)
    except httpx2.HTTPError as error:
        return reason_of(error)
    return "" if answer.is_success else str(answer.status_code)


async def _run(plan: LoadPlan) -> None:
    limits = httpx2.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=_KEPT_S)
    client = partial(
        httpx2.AsyncClient,
        limits=limits,
        timeout=None,
        headers={"Content-Type": "application/json"},
        # Otherwise each client would load the system's certificate authorities.
        verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        trust_env=False,
    )
    generator = LoadGenerator(
        plan,
        questions(plan.topics),
        (plan.topics.command, plan.topics.status),
        lambda: asking(client()),
    )
    # Garbage collection of everything imported would delay requests.
    gc.collect()
    gc.freeze()
    emit("ready")
    if await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
        emit("answered", answers=await generator.run())


def main() -> None:
    """Run the plan given on the command line."""
    # Ctrl-C is for the parent process, which terminates this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    trio.run(_run, msgspec.json.decode(sys.argv[1], type=LoadPlan))


if __name__ == "__main__":
    main()
