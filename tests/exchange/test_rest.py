"""Refusals over REST, and how long requests back off."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial

import httpx2
import pytest
import trio
from attrs import frozen
from trio.testing import MockClock

from klineagent.core.errors import ExchangeError, ExchangeUnreachable
from klineagent.core.interval import DAY_MS, MINUTE_MS, SECOND_MS, Interval
from klineagent.exchange.budget import open_weight_pools
from klineagent.exchange.clock.clock import ExchangeTime
from klineagent.exchange.network import Internet, Network
from klineagent.exchange.rest import REQUEST_TIMEOUT_S, Page, RestClient, open_rest
from klineagent.exchange.venues import COINM, USDM

NOW_MS = 1_769_904_000_000  # 2026-02-01
SENT_AT = "Sun, 01 Feb 2026 00:00:00 GMT"

SubscriptionResponse = (
    Callable[[httpx2.Request], httpx2.Response]
    | Callable[[httpx2.Request], Coroutine[None, None, httpx2.Response]]
)


@frozen
class Refusing:
    """A network on which a function answers every request."""

    answer: SubscriptionResponse

    async def open_stream(self, url: httpx2.URL) -> trio.abc.Stream:
        raise AssertionError("there are no streams here")

    def http_transport(self) -> httpx2.AsyncBaseTransport:
        return httpx2.MockTransport(self.answer)


@asynccontextmanager
async def _open_rest(
    network: Network, time: ExchangeTime, rest_url: str = "https://exchange.test"
) -> AsyncIterator[RestClient]:
    """A client alone in its weight pool."""
    async with (
        open_weight_pools() as pools,
        open_rest(network=network, venue=USDM, rest_url=rest_url, time=time, pools=pools) as rest,
    ):
        yield rest


@asynccontextmanager
async def _asking(answer: SubscriptionResponse, time: ExchangeTime) -> AsyncIterator[None]:
    """A client that does not know the time and keeps asking for it."""
    async with _open_rest(Refusing(answer), time):
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
async def test_an_agent_that_starts_during_a_ban_asks_again_when_it_may_be_over(
    autojump_clock: MockClock, banned_for_s: int, headers: dict[str, str], waits_s: int
) -> None:
    """A ban ends at a time of day, and the agent does not know the time yet."""
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


async def test_a_ban_ends_by_the_exchanges_clock(autojump_clock: MockClock) -> None:
    """Whatever date the answer has."""
    asked_at: list[float] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked_at.append(trio.current_time())
        if len(asked_at) == 1:
            return _banned(NOW_MS + 600 * SECOND_MS, Date="Sat, 31 Jan 2026 00:00:00 GMT")
        return httpx2.Response(200, json={"serverTime": NOW_MS + DAY_MS})

    time = ExchangeTime()
    async with _asking(answer, time):
        time.confirm(NOW_MS - 100 * SECOND_MS)
        while len(asked_at) < 2:  # noqa: ASYNC110 - the virtual clock jumps to what happens next
            await trio.sleep(1)
    assert asked_at[1] - asked_at[0] == pytest.approx(700, abs=100)


async def test_a_silent_exchange_is_given_up_after_our_own_timeout(
    autojump_clock: MockClock,
) -> None:
    """The library's timeouts for each phase of a request do not apply."""
    autojump_clock.autojump_threshold = 0.05  # a connection within this machine is made meanwhile

    async def say_nothing(stream: trio.abc.Stream) -> None:
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_tcp, say_nothing, 0, host="127.0.0.1")
        [listener] = await nursery.start(serve)
        port = listener.socket.getsockname()[1]
        time = ExchangeTime()
        time.confirm(NOW_MS)
        async with _open_rest(Internet(), time, f"http://127.0.0.1:{port}") as rest:
            asked_at = trio.current_time()
            with pytest.raises(ExchangeUnreachable, match="within 10 s"):
                await rest.exchange_info()
            assert trio.current_time() - asked_at == pytest.approx(REQUEST_TIMEOUT_S)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("status", "headers", "text", "most_s"),
    [
        (429, {"Retry-After": "9" * 5000}, "", 60),
        (429, {"Retry-After": "999999999"}, "", 3600),
        (418, {"Retry-After": "9" * 5000}, "", 120),
        (418, {"Retry-After": "999999999"}, "", 3 * 86_400),
        (418, {}, f"banned until {'9' * 5000}.", 120),
        (418, {}, f"banned until {NOW_MS * 1000}.", 120),
        (418, {}, "banned until 9999999999999.", 3 * 86_400),
        (200, {"X-MBX-USED-WEIGHT-1M": "9" * 5000}, '{"symbols":[{}]}', 0),
        (200, {"X-MBX-USED-WEIGHT-1M": "-7"}, '{"symbols":[{}]}', 0),
        (200, {"X-MBX-USED-WEIGHT-1M": "999999999"}, '{"symbols":[{}]}', 60),
    ],
)
async def test_an_impossible_number_causes_no_long_wait(
    autojump_clock: MockClock, status: int, headers: dict[str, str], text: str, most_s: float
) -> None:
    """Whatever an answer contains in place of a time or a weight."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(status, headers=headers, text=text)

    time = ExchangeTime()
    time.confirm(NOW_MS)
    async with _open_rest(Refusing(answer), time) as rest:
        for waited_s in (0, most_s):
            asked_at = trio.current_time()
            with pytest.raises(ExchangeError):
                await rest.exchange_info()
            assert trio.current_time() - asked_at == pytest.approx(waited_s, abs=1)


async def test_concurrent_failures_count_as_one(autojump_clock: MockClock) -> None:
    """Ten requests under way make others wait no longer than one would."""

    async def fail_late(request: httpx2.Request) -> httpx2.Response:
        await trio.sleep(1)
        return httpx2.Response(503)

    time = ExchangeTime()
    time.confirm(NOW_MS)
    page = Page(NOW_MS, NOW_MS + MINUTE_MS, 2)
    async with _open_rest(Refusing(fail_late), time) as rest:

        async def ask() -> None:
            with pytest.raises(ExchangeUnreachable):
                await rest.candles("BTCUSDT", Interval.M1, page, 0)

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(ask)
        assert trio.current_time() == pytest.approx(1)
        assert rest.counts.failed == 10
        assert rest.budget.spending().backing_off_s <= 0.5


@pytest.mark.parametrize(("status", "other_waits_s"), [(418, 0), (429, 60)], ids=["ban", "limit"])
async def test_a_limit_holds_both_futures_venues_and_a_ban_only_its_own(
    autojump_clock: MockClock, status: int, other_waits_s: float
) -> None:
    """Their weight is one; a ban is as far as it is known one venue's."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.host == "usdm.test":
            return httpx2.Response(status, headers={"Retry-After": "60"})
        return httpx2.Response(
            200, json={"symbols": [{"symbol": "A", "contractStatus": "TRADING"}]}
        )

    async with open_weight_pools() as pools:
        usdm, coinm = ExchangeTime(), ExchangeTime()
        usdm.confirm(NOW_MS)
        coinm.confirm(NOW_MS)
        network = Refusing(answer)
        async with (
            open_rest(
                network=network, venue=USDM, rest_url="https://usdm.test", time=usdm, pools=pools
            ) as refused,
            open_rest(
                network=network, venue=COINM, rest_url="https://coinm.test", time=coinm, pools=pools
            ) as other,
        ):
            with pytest.raises(ExchangeUnreachable, match=str(status)):
                await refused.exchange_info()
            assert refused.budget.spending().backing_off_s == pytest.approx(60)
            asked_at = trio.current_time()
            await other.exchange_info()
            assert trio.current_time() - asked_at == pytest.approx(other_waits_s)
