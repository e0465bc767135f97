"""Measures the same bots in each way to the exchange: requests, weight, time to the candle."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec
import trio
from attrs import define, field, frozen
from msgspec import Struct

from klineagent.bench.bots.bot import ROWS, BotPlan
from klineagent.bench.child import Child, open_child
from klineagent.bench.figures import Spread
from klineagent.bench.probes import TwinClock
from klineagent.bench.reading.http_client import open_http_client
from klineagent.bench.twin import TwinProcess, open_twin
from klineagent.core.interval import MINUTE_MS, SECOND_MS
from klineagent.exchange.venues import USDM

# For symbols, the first candles and, with ccxt's own limiter, a quarter of a second for each pair.
_READY_WITHIN_S = 120
_CLOSED_WITHIN_S = 60
_METER_BEFORE_S = 2
"""The twin's meter is read so long before a minute ends, and begins anew then."""
_REQUESTS = re.compile(r'klineagent_rest_requests_total\{venue="usdm"\} (\S+)')


@frozen(kw_only=True)
class Fleet:
    """How many bots there are, and what each one asks for."""

    bots: int = 5
    pairs: int = 80
    closes: int = 3
    start: str = "2027-02-02T00:00:30"


class WayResult(Struct, frozen=True, kw_only=True):
    """What the exchange and the bots saw in one way."""

    way: str
    requests_at_start: int
    """Requests to the exchange until all bots have their pairs and first candles."""
    errors_at_start: dict[str, int]
    """What the bots were refused until then."""
    requests: int
    """Requests to the exchange at all closes."""
    weight: int
    """Request weight at all closes, by the exchange's meter."""
    took_s: Spread | None
    """From a close until a bot has the closed candles of all its pairs."""
    errors: dict[str, int]
    """What the bots were refused, and how often a candle was not there."""


@frozen
class _Route:
    """Where bots ask, and how many requests came to the exchange."""

    url: str
    requests: Callable[[], Awaitable[int]] | None = None
    """None: all that the bots send."""


async def compare_ways(
    fleet: Fleet, announce: Callable[[str], None], ways: Collection[str] | None = None
) -> list[WayResult]:
    """Measure all ways, or some, one after the other, each with an exchange of its own.

    Raises:
        BenchFailed: ccxt is not installed, or a process failed.
    """
    results = []
    for way, (open_route, is_limited) in WAYS.items():
        if ways is not None and way not in ways:
            continue
        announce(way)
        options = "--start", fleet.start
        async with open_twin(*options, symbols={USDM.name: fleet.pairs}) as twin:
            clock = await TwinClock.read(twin.rest_urls[USDM.name], USDM)
            async with open_route(twin, clock) as route:
                course = _Course(way, fleet, twin, clock, route, is_limited)
                results.append(await course.run())
    return results


@asynccontextmanager
async def _directly(twin: TwinProcess, _clock: TwinClock) -> AsyncIterator[_Route]:
    yield _Route(twin.rest_urls[USDM.name])


@asynccontextmanager
async def _by_proxy(twin: TwinProcess, clock: TwinClock) -> AsyncIterator[_Route]:
    upstream = _netloc(twin.rest_urls[USDM.name])
    command = [*_python("klineagent.bench.bots.proxy"), upstream, str(clock.ahead_ms)]
    async with open_child("the proxy", command, reports_on="stdout") as proxy:
        address = (await proxy.event_within(_READY_WITHIN_S, "ready"))["address"]

        async def forwarded() -> int:
            return int(await _get(address, "/forwarded"))

        yield _Route(f"http://{address}", forwarded)


@asynccontextmanager
async def _by_agent(twin: TwinProcess, _clock: TwinClock) -> AsyncIterator[_Route]:
    any_port = "127.0.0.1:0"
    command = [
        *(sys.executable, "-m", "klineagent", "serve", *twin.symbols[USDM.name]),
        *("--intervals", "1m", "--history", str(2 * ROWS), "--store", "memory:"),
        *("--ws-url", twin.ws_urls[USDM.name], "--rest-url", twin.rest_urls[USDM.name]),
        *("--command-bind", any_port, "--status-bind", any_port, "--read-bind", any_port),
        *("--spool", "none", "--state", "none", "--log-format", "json"),
    ]
    async with open_child("the agent", command, reports_on="stderr") as agent:
        read = (await agent.event_within(_READY_WITHIN_S, "readable"))["read"]
        status = (await agent.event_within(_READY_WITHIN_S, "listening"))["status"]

        async def requests() -> int:
            found = _REQUESTS.search((await _get(status, "/metrics")).decode())
            return int(float(found[1])) if found else 0

        yield _Route(f"http://{read}", requests)


WAYS = {
    "directly": (_directly, True),
    "directly, without ccxt's rate limiter": (_directly, False),
    "behind a caching proxy": (_by_proxy, False),
    "behind klineagent": (_by_agent, False),
}
"""How bots reach the exchange, and whether they use ccxt's rate limiter."""


@define(eq=False)
class _Course:
    """One measurement."""

    _way: str
    _fleet: Fleet
    _twin: TwinProcess
    _clock: TwinClock
    _route: _Route
    _is_limited: bool
    _weight: int = field(default=0, init=False)

    async def run(self) -> WayResult:
        plan = BotPlan(
            url=self._route.url,
            symbols=self._twin.symbols[USDM.name],
            closes=self._fleet.closes,
            is_limited=self._is_limited,
            ahead_ms=self._clock.ahead_ms,
        )
        command = [*_python("klineagent.bench.bots.bot"), msgspec.json.encode(plan).decode()]
        async with AsyncExitStack() as opened:
            bots = [
                await opened.enter_async_context(
                    open_child(f"bot {number}", command, reports_on="stdout")
                )
                for number in range(self._fleet.bots)
            ]
            ready = [await bot.event_within(_READY_WITHIN_S, "ready") for bot in bots]
            if self._to_close_s() < 2 * _METER_BEFORE_S:
                await trio.sleep(2 * _METER_BEFORE_S)
            at_start = await self._requests(ready)
            for bot in bots:
                await bot.go()
            await trio.sleep(self._to_close_s())
            closed: list[dict[str, Any]] = []
            for nth in range(self._fleet.closes):
                last = await self._closed(bots, nth)
                closed += last
            return WayResult(
                way=self._way,
                requests_at_start=at_start,
                errors_at_start=_errors(ready),
                requests=await self._requests(last) - at_start,
                weight=self._weight,
                took_s=Spread.of([each["took_ms"] / SECOND_MS for each in closed]),
                errors=_errors(last),
            )

    async def _closed(self, bots: Sequence[Child], nth: int) -> list[dict[str, Any]]:
        """Wait until all bots have the candles of the nth close, and read the meter."""
        closed = [await bot.event_within(_CLOSED_WITHIN_S, "closed", nth) for bot in bots]
        if nth + 1 < self._fleet.closes:
            await trio.sleep(self._to_close_s() - _METER_BEFORE_S)
        self._weight += await self._used_weight()
        await trio.sleep(self._to_close_s() if nth + 1 < self._fleet.closes else 0)
        return closed

    async def _requests(self, reports: Sequence[dict[str, Any]]) -> int:
        if self._route.requests is not None:
            return await self._route.requests()
        return sum(each["requests"] for each in reports)

    async def _used_weight(self) -> int:
        """Read what others have used in this minute."""
        async with open_http_client(_netloc(self._twin.rest_urls[USDM.name])) as client:
            answer = await client.get(USDM.time_path)
        return int(answer.headers[b"x-mbx-used-weight-1m"]) - 1

    def _to_close_s(self) -> float:
        return (MINUTE_MS - self._clock.now_ms() % MINUTE_MS) / SECOND_MS


def _errors(reports: Iterable[dict[str, Any]]) -> dict[str, int]:
    return dict(sum((Counter(each["errors"]) for each in reports), Counter()))


def _python(module: str) -> tuple[str, ...]:
    return sys.executable, "-m", module


def _netloc(url: str) -> str:
    return url.partition("://")[2]


async def _get(server: str, target: str) -> bytes:
    async with open_http_client(server) as client:
        return (await client.get(target)).body
