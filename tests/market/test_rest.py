"""What REST refuses, and how long we stay away then."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx2
import pytest
import trio
from attrs import frozen
from trio.testing import MockClock

from klineagent.kline import DAY_MS, SECOND_MS
from klineagent.market.clock import ExchangeTime
from klineagent.market.rest import open_rest
from klineagent.market.venues import USDM

NOW_MS = 1_769_904_000_000  # 2026-02-01
SENT_AT = "Sun, 01 Feb 2026 00:00:00 GMT"

Answer = Callable[[httpx2.Request], httpx2.Response]


@frozen
class Refusing:
    """A network on which every request is answered by a function."""

    answer: Answer

    async def open_stream(self, url: httpx2.URL) -> trio.abc.Stream:
        raise AssertionError("nobody asks for streams here")

    def http_transport(self) -> httpx2.AsyncBaseTransport:
        return httpx2.MockTransport(self.answer)


@asynccontextmanager
async def _asking(answer: Answer, time: ExchangeTime) -> AsyncIterator[None]:
    """A client that knows no time and so goes on asking for it."""
    network = Refusing(answer)
    async with open_rest(network=network, venue=USDM, rest_url="https://exchange.test", time=time):
        yield


def _banned(until_ms: int, **headers: str) -> httpx2.Response:
    text = f"Way too many requests; IP(127.0.0.1) banned until {until_ms}."
    return httpx2.Response(418, headers=headers, json={"code": -1003, "msg": text})


@pytest.mark.parametrize(
    ("banned_for_s", "headers", "waits_s"),
    [
        (600, {"Date": SENT_AT}, 600),
        (600, {}, 120),
        (600, {"Date": "some day"}, 120),
        (600, {"Retry-After": "300"}, 300),
        (365 * 86_400, {"Date": SENT_AT}, 3 * 86_400),
    ],
)
async def test_an_agent_that_starts_while_it_is_banned_asks_again_when_that_may_be_over(
    autojump_clock: MockClock, banned_for_s: int, headers: dict[str, str], waits_s: int
) -> None:
    """The end of the ban is a time of day, and nobody has told it yet what time it is."""
    asked_at: list[float] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked_at.append(trio.current_time())
        if len(asked_at) == 1:
            return _banned(NOW_MS + banned_for_s * SECOND_MS, **headers)
        return httpx2.Response(200, json={"serverTime": NOW_MS + waits_s * SECOND_MS})

    time = ExchangeTime()
    async with _asking(answer, time):
        await time.known()
    assert asked_at[1] - asked_at[0] == pytest.approx(waits_s, abs=2)


async def test_a_ban_is_waited_for_by_the_exchanges_clock(autojump_clock: MockClock) -> None:
    """However old the answer claims to be."""
    asked_at: list[float] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked_at.append(trio.current_time())
        if len(asked_at) == 1:
            return _banned(NOW_MS + 600 * SECOND_MS, Date="Sat, 31 Jan 2026 00:00:00 GMT")
        return httpx2.Response(200, json={"serverTime": NOW_MS + DAY_MS})

    time = ExchangeTime()
    async with _asking(answer, time):
        time.hear(NOW_MS - 100 * SECOND_MS)
        while len(asked_at) < 2:  # noqa: ASYNC110 - the virtual clock jumps to what happens next
            await trio.sleep(1)
    assert asked_at[1] - asked_at[0] == pytest.approx(700, abs=100)
