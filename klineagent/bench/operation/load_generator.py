"""The process that asks an agent many things, and sees how long the answers take.

    python -m klineagent.bench.operation.load_generator PLAN

It tells `ready`, waits for a line on standard input, asks, and tells what was `answered`. Requests
are due at fixed moments, however long others take.
"""

from __future__ import annotations

import gc
import signal
import ssl
import sys
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from itertools import islice

import httpx2
import msgspec
import trio
from attrs import define, field, frozen
from msgspec import Struct

from klineagent.bench.child import tell
from klineagent.bench.figures import Answers, Spread
from klineagent.bench.operation.questions import Question, Topics, questions
from klineagent.core.errors import reason_of
from klineagent.core.interval import SECOND_MS

CONNECTIONS = 20
"""To each server; who finds none free waits for one, and that counts."""
PATIENCE_S = 10
"""From the moment a request was due."""
# Servers close connections that are idle for some seconds; not to meet that is the caller's part.
_KEPT_S = 2


class Calling(Struct, frozen=True, kw_only=True):
    """What is asked, how often, how long."""

    topics: Topics
    per_s: float
    warm_up_s: float
    """Asked already, and not yet measured."""
    seconds: float


@frozen
class Due:
    """A question, and the moment to ask it."""

    question: Question
    at: float
    is_measured: bool


@define(eq=False)
class Caller:
    """Asks, and notes what becomes of it."""

    _calling: Calling
    _open_client: Callable[[], httpx2.AsyncClient]
    """Makes one that has a connection."""
    _answered: int = field(default=0, init=False)
    _errors: Counter[str] = field(factory=Counter, init=False)
    _took_ms: defaultdict[str, list[float]] = field(factory=lambda: defaultdict(list), init=False)
    _begun_late_ms: list[float] = field(factory=list, init=False)

    async def run(self) -> Answers:
        """Ask at fixed moments, and tell of all that were due in the window."""
        calling = self._calling
        window_at = trio.current_time() + calling.warm_up_s
        before = round(calling.warm_up_s * calling.per_s)
        asked = max(1, round(calling.seconds * calling.per_s))
        cpu_s = 0.0
        async with self._open_lines(before + asked) as lines:
            for number, question in enumerate(islice(questions(calling.topics), before + asked)):
                due_at = window_at + (number - before) / calling.per_s
                await trio.sleep_until(due_at)
                if number == before:
                    cpu_s = time.process_time()
                lines[question.server].send_nowait(Due(question, due_at, number >= before))
        return Answers(
            seconds=max(trio.current_time() - window_at, calling.seconds),
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
    async def _open_lines(
        self, room: int
    ) -> AsyncIterator[Mapping[str, trio.MemorySendChannel[Due]]]:
        """Where questions to each server wait in turn; in the end, for the last to be asked."""
        async with trio.open_nursery() as nursery:
            lines = {}
            for server in (self._calling.topics.command, self._calling.topics.status):
                # Room for all there will be: whoever asks at fixed moments waits for nobody.
                lines[server], waiting = trio.open_memory_channel[Due](room)
                for _ in range(CONNECTIONS):
                    nursery.start_soon(self._ask_all, waiting)
            yield lines
            for line in lines.values():
                line.close()

    async def _ask_all(self, waiting: trio.MemoryReceiveChannel[Due]) -> None:
        async with self._open_client() as client:
            async for due in waiting:
                await self._ask(client, due)

    async def _ask(self, client: httpx2.AsyncClient, due: Due) -> None:
        begun_at, failure = trio.current_time(), f"no answer within {PATIENCE_S} s"
        with trio.move_on_at(due.at + PATIENCE_S):
            failure = await _failure_of(client, due.question)
        if failure:
            self._errors[f"{due.question.kind}: {failure}"] += 1
        if due.is_measured:
            self._answered += not failure
            took_s = trio.current_time() - due.at
            self._took_ms[due.question.kind].append(took_s * SECOND_MS)
            self._begun_late_ms.append((begun_at - due.at) * SECOND_MS)


async def _failure_of(client: httpx2.AsyncClient, question: Question) -> str:
    method = "GET" if question.body is None else "POST"
    try:
        answer = await client.request(method, question.url, content=question.body)
    except httpx2.HTTPError as error:
        return reason_of(error)
    return "" if answer.is_success else str(answer.status_code)


async def _run(calling: Calling) -> None:
    limits = httpx2.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=_KEPT_S)
    open_client = partial(
        httpx2.AsyncClient,
        limits=limits,
        timeout=None,
        headers={"Content-Type": "application/json"},
        # Each would read the authorities of the web.
        verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        trust_env=False,
    )
    # A collection of all that is imported would make requests late.
    gc.collect()
    gc.freeze()
    tell("ready")
    if await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
        tell("answered", answers=await Caller(calling, open_client).run())


def main() -> None:
    """Follow the plan that the command line gives."""
    # Ctrl-C is for whoever started this, and ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    trio.run(_run, msgspec.json.decode(sys.argv[1], type=Calling))


if __name__ == "__main__":
    main()
