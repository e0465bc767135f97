"""Requests that the read server passes on to the exchange."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import msgspec
import pytest
import trio
from attrs import define
from quart.typing import TestClientProtocol as Client
from trio.testing import MockClock
from werkzeug.datastructures import Headers

from klineagent.api.reading.binance import read_app
from klineagent.core.interval import Interval
from klineagent.exchange.venues import COINM, SPOT, USDM, VENUES
from klineagent.reading.candles import CandleReader
from klineagent.testing.simulation import Simulation, open_simulation
from klineagent.twin import network

KEYS = {"X-MBX-APIKEY": "key-of-a-user", "Authorization": "Bearer b", "Cookie": "c=key-of-a-user"}


@define
class Forwarding:
    """A read server with `--forward`, and what it has sent to the exchange."""

    simulation: Simulation
    client: Client
    sent: list[httpx2.Request]

    async def get(self, path: str, **headers: str) -> tuple[int, Any, Headers]:
        """Status, body and headers of an answer."""
        answer = await self.client.get(path, headers=headers)
        body = await answer.get_data(as_text=False)
        is_json = answer.mimetype == "application/json"
        return answer.status_code, msgspec.json.decode(body) if is_json else body, answer.headers

    def asked(self, endpoint: str) -> list[httpx2.Request]:
        """The requests that were sent to an endpoint."""
        return [each for each in self.sent if each.url.path.endswith(f"/{endpoint}")]


@pytest.fixture
async def forwarding(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Forwarding]:
    """An agent that records BTCUSDT, after two minutes."""
    async with _open_forwarding(monkeypatch) as opened:
        yield opened


@asynccontextmanager
async def _open_forwarding(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Forwarding]:
    sent: list[httpx2.Request] = []
    transport = network._RestTransport  # the twin does not see headers
    handle = transport.handle_async_request

    async def noting(self: Any, request: httpx2.Request) -> httpx2.Response:
        sent.append(request)
        await trio.sleep(0.1)
        return await handle(self, request)

    monkeypatch.setattr(transport, "handle_async_request", noting)
    async with open_simulation(
        symbols=["BTCUSDT"], intervals=[Interval.M1], history=20, tick_ms=1_000
    ) as simulation:
        agent = simulation.agent
        reader = CandleReader(
            venues=agent.venues, writer=agent.writer, forwards=frozenset(VENUES.values())
        )
        client = read_app(reader).test_client()
        with agent.bus.subscribed(reader.tail):
            await trio.sleep(130)
            yield Forwarding(simulation, client, sent)


async def test_what_the_agent_does_not_have_is_the_exchanges_answer(
    autojump_clock: MockClock, forwarding: Forwarding
) -> None:
    """Its status and body, and how much weight our address has used; marked as its own."""
    for path in (
        "/fapi/v1/depth?symbol=BTCUSDT&limit=5",
        "/fapi/v1/klines?symbol=ETHUSDT&interval=1m&limit=3",
        "/fapi/v1/klines?symbol=BTCUSDT&interval=1h&limit=3",
        "/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=100",
        "/fapi/v1/klines?symbol=BTCUSDT&interval=1m&startTime=0&limit=2",
    ):
        status, body, headers = await forwarding.get(path)
        assert (status, headers["X-Klineagent-Source"]) == (200, "exchange")
        assert int(headers["X-MBX-USED-WEIGHT-1M"]) > 0
        assert body
    status, body, headers = await forwarding.get("/fapi/v1/klines?symbol=NONE&interval=1m")
    assert (status, body["code"]) == (400, -1121)
    status, body, headers = await forwarding.get(
        "/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=9"
    )
    assert (status, len(body)) == (200, 9)
    assert headers.get("X-Klineagent-Source") != "exchange"


async def test_a_venue_that_is_not_recorded_is_opened(
    autojump_clock: MockClock,
) -> None:
    """Some programs load the symbols of every venue at their start, and end if one is silent."""
    async with open_simulation(
        symbols=["BTCUSDT"], intervals=[Interval.M1], beside=[SPOT, COINM]
    ) as simulation:
        venues = simulation.agent.venues
        reader = CandleReader(
            venues=venues, writer=simulation.agent.writer, forwards=frozenset(VENUES.values())
        )
        client = read_app(reader).test_client()
        for path in ("/api/v3/depth?symbol=BTCUSDT", "/dapi/v1/exchangeInfo"):
            assert (await client.get(path)).status_code == 200
        assert [each.venue for each in venues] == [USDM, SPOT, COINM]
        assert venues.count() == 1


async def test_nothing_of_a_client_goes_along(
    autojump_clock: MockClock, forwarding: Forwarding, caplog: pytest.LogCaptureFixture
) -> None:
    """No key, no token, no cookie; nor are they in a log."""
    await forwarding.get("/fapi/v1/depth?symbol=BTCUSDT&token=key-of-a-user", **KEYS)
    await forwarding.get("/fapi/v1/nothing?token=key-of-a-user", **KEYS)
    assert len(forwarding.asked("depth")) == 1
    for request in forwarding.sent:
        text = f"{request.url} {request.headers.raw}"
        assert "key-of-a-user" not in text
        assert "Bearer" not in text
    assert "key-of-a-user" not in caplog.text


@pytest.mark.parametrize(
    "path",
    [
        "/fapi/v1/account",
        "/fapi/v2/balance?timestamp=1&signature=ab",
        "/fapi/v1/openOrders?symbol=BTCUSDT",
        "/fapi/v1/depth?symbol=BTCUSDT&signature=ab",
        "/fapi/v1/listenKey",
        "/fapi/v1/depth?symbol=BTCUSDT&X-MBX-APIKEY=ab",
        "/fapi/v1/depth?symbol=BTCUSDT&api_key=ab",
        "/fapi/v1/depth?symbol=BTCUSDT&access_token=ab",
        "/fapi/v1/depth?symbol=BTCUSDT&Secret=ab",
        "/fapi/v1/feeBurn",
        "/fapi/v1/apiTradingStatus",
        "/fapi/v1/symbolConfig",
    ],
)
async def test_requests_about_an_account_are_not_passed_on(
    autojump_clock: MockClock, forwarding: Forwarding, path: str
) -> None:
    """With the code of a wrong key, after which no client tries again."""
    before = len(forwarding.sent)
    status, body, _ = await forwarding.get(path)
    assert (status, body["code"]) == (400, -2015)
    assert len(forwarding.sent) == before


async def test_only_paths_that_can_be_endpoints_are_passed_on(
    autojump_clock: MockClock, forwarding: Forwarding
) -> None:
    """And only reads: nothing of an exchange can be changed from here."""
    before = len(forwarding.sent)
    for path in ("/fapi/v1/../../x", "/fapi/v1/a%2e%2e/b", "/fapi/v1/a.b", "/fapi/x"):
        answer = await forwarding.client.get(path)
        assert answer.status_code == 404
    client = forwarding.client
    for change in (client.post, client.put, client.delete):
        answer = await change("/fapi/v1/depth")
        assert answer.status_code == 405
    assert len(forwarding.sent) == before


async def test_who_asks_what_another_asks_shares_the_answer(
    autojump_clock: MockClock, forwarding: Forwarding
) -> None:
    """Also when the one who asked first leaves before it has come."""
    paths = ["/fapi/v1/depth?symbol=BTCUSDT&limit=5", "/fapi/v1/depth?limit=5&symbol=BTCUSDT"]
    answers: list[Any] = []

    async def ask(path: str) -> None:
        answers.append((await forwarding.get(path))[1])

    async with trio.open_nursery() as nursery:
        for path in paths * 10:
            nursery.start_soon(ask, path)
    assert len(forwarding.asked("depth")) == 1
    assert answers == answers[:1] * 20
    async with trio.open_nursery() as nursery, trio.open_nursery() as leaving:
        leaving.start_soon(ask, paths[0])
        await trio.sleep(0.05)
        nursery.start_soon(ask, paths[1])
        await trio.sleep(0.01)
        leaving.cancel_scope.cancel()
    assert len(answers) == 21
    assert len(forwarding.asked("depth")) == 3


async def test_programs_that_read_spend_a_fifth_of_the_weight_at_most(
    autojump_clock: MockClock,
    forwarding: Forwarding,
) -> None:
    """Who comes after that is told when to try again, and then has an answer."""
    clock, meter = forwarding.simulation.exchange.clock, forwarding.simulation.exchange.rest.meter
    await trio.sleep(60 - clock.now_ms() % 60_000 / 1000 + 1)
    used, served = meter.used, 0
    for limit in range(1, 300):
        status, body, headers = await forwarding.get(
            f"/fapi/v1/klines?symbol=ETHUSDT&interval=1m&limit=499&endTime={clock.now_ms() - limit}"
        )
        if status != 200:
            break
        served += 1
    assert (status, body["code"]) == (503, -1000)
    assert served > 20
    assert meter.used - used <= 0.2 * 0.8 * USDM.weight_per_minute + 10
    await trio.sleep(int(headers["Retry-After"]) + 1)
    status, _, _ = await forwarding.get("/fapi/v1/depth?symbol=BTCUSDT&limit=5")
    assert status == 200


async def test_a_limit_that_the_exchange_names_holds_the_pool_and_is_passed_on(
    autojump_clock: MockClock,
    forwarding: Forwarding,
) -> None:
    """The client learns of it by the exchange's own answer; then nothing is asked for its time."""
    meter = forwarding.simulation.exchange.rest.meter
    meter.used = meter.limit
    status, body, headers = await forwarding.get("/fapi/v1/depth?symbol=BTCUSDT")
    assert (status, body["code"]) == (429, -1003)
    held_s = int(headers["Retry-After"])
    before = len(forwarding.sent)
    status, body, headers = await forwarding.get("/fapi/v1/depth?symbol=BTCUSDT")
    assert (status, body["code"]) == (503, -1000)
    assert int(headers["Retry-After"]) == pytest.approx(held_s, abs=1)
    assert len(forwarding.sent) == before
    assert forwarding.simulation.agent.registry.context.rest.budget.spending().backing_off_s > 0


async def test_an_exchange_that_is_away_is_a_failure_that_passes(
    autojump_clock: MockClock, forwarding: Forwarding
) -> None:
    """Its silence to a program is no reason for the agent's own requests to back off."""
    with forwarding.simulation.exchange.offline():
        status, body, _ = await forwarding.get("/fapi/v1/depth?symbol=BTCUSDT")
        assert (status, body["code"]) == (503, -1000)
    status, body, _ = await forwarding.get("/fapi/v1/depth?symbol=BTCUSDT")
    assert status == 200


async def test_without_the_option_other_paths_are_not_served(autojump_clock: MockClock) -> None:
    """The answer says which option asks the exchange."""
    async with open_simulation(symbols=["BTCUSDT"], intervals=[Interval.M1]) as simulation:
        agent = simulation.agent
        client = read_app(CandleReader(venues=agent.venues, writer=agent.writer)).test_client()
        answer = await client.get("/fapi/v1/depth?symbol=BTCUSDT")
        body = await answer.get_json()
        assert (answer.status_code, body["code"]) == (404, -1000)
        assert "--forward" in body["msg"]
