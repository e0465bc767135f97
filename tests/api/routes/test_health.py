"""The reasons of `/ready`, and which clients get details."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import product
from typing import Any

import httpx2
import pytest
import trio
from trio.testing import MockClock

from klineagent.agent import Agent, open_agent
from klineagent.api.guard import OPEN_PATHS
from klineagent.config.model import Config
from klineagent.core.address import Bind
from klineagent.core.errors import StoreMisconfigured
from klineagent.core.interval import MINUTE_MS
from klineagent.storage.memory.store import MemoryStore
from klineagent.storage.store import Batch
from klineagent.testing.simulation import FEBRUARY_2026_MS
from klineagent.twin.exchange import Exchange, open_exchange
from klineagent.twin.market.random import RandomMarket
from klineagent.twin.network import TwinNetwork
from klineagent.twin.venues import venue_named

TOKEN = "0123456789abcdef-the-right-one"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
LOCAL, EVERYWHERE = Bind("127.0.0.1", 0), Bind("0.0.0.0", 0)
PLAIN = {
    "exchange": "the exchange has not answered yet",
    "feeds": "a connection to the exchange is down",
    "store": "the database takes no rows, and there is no spool",
    "series": "candles fell due over 600 s ago and are missing",
}
SECRETS = (
    "db-internal",
    "recorder",
    "BTCUSDT",
    "rest.internal",
    "ws.internal",
    "klineagent/",
    "0.",
)
STRANGERS: list[dict[str, str]] = [
    {},
    {"Authorization": "Bearer 0123456789abcdef-a-wrong-one"},
    {"Authorization": f"Basic {TOKEN}"},
    {"X-Forwarded-For": "127.0.0.1", "Host": "localhost"},
    {"Upgrade": "websocket", "Connection": "Upgrade"},
]


class SecretiveStore(MemoryStore):
    """A database whose error messages must not reach unauthorized clients."""

    async def insert(self, batch: Batch) -> None:
        await trio.lowlevel.checkpoint()
        raise StoreMisconfigured("clickhouse://db-internal:9000: recorder may not write")


@asynccontextmanager
async def _suffering(**settings: Any) -> AsyncIterator[tuple[Agent, Exchange]]:
    """An agent with every reason not to be ready, except the one that ends at the start."""
    market = RandomMarket(symbols=3, seed=1, start_ms=FEBRUARY_2026_MS, venue_name="usdm")
    config = Config(
        symbols=("BTCUSDT",),
        intervals=("1m",),
        store="memory:",
        agent_ip="127.0.0.1",
        history=0,
        rest_url="https://rest.internal",
        ws_url="wss://ws.internal/market",
        **{"command_bind": LOCAL, **settings},
    )
    async with (
        open_exchange(market, venue_named("usdm"), tick_ms=MINUTE_MS) as exchange,
        trio.open_nursery() as connections,
    ):
        network = TwinNetwork(exchange, connections)
        async with open_agent(config, network=network, store=SecretiveStore()) as agent:
            await trio.sleep(120)
            with exchange.offline():
                await trio.sleep(900)
                yield agent, exchange
        connections.cancel_scope.cancel(reason="the simulation is over")


async def _reasons(agent: Agent, **headers: str) -> dict[str, str]:
    async with httpx2.AsyncClient(trust_env=False) as client:
        url = f"http://127.0.0.1:{agent.status_bind.port}/ready"
        answer = await client.get(url, headers=headers)
    assert answer.status_code == 503
    return {each["part"]: each["reason"] for each in answer.json()["reasons"]}


@pytest.mark.slow
@pytest.mark.logs("store_unavailable", "rows_lost")
@pytest.mark.parametrize(
    "settings",
    [
        {"status_bind": EVERYWHERE, "token": TOKEN},
        {"status_bind": EVERYWHERE},
        {"status_bind": EVERYWHERE, "allow_anonymous": True},
        {"status_bind": LOCAL, "token": TOKEN},
    ],
    ids=["token", "closed", "anonymous", "token-on-loopback"],
)
async def test_strangers_learn_which_part_is_wrong_and_nothing_else(
    autojump_clock: MockClock, settings: dict[str, Any]
) -> None:
    """Over sockets: every open path, by every method, in body and head; who has the token knows."""
    expected = {part: text for part, text in PLAIN.items() if part != "exchange"}
    async with _suffering(**settings) as (agent, _):
        for headers in STRANGERS:
            assert await _reasons(agent, **headers) == expected
        async with httpx2.AsyncClient(trust_env=False) as client:
            for path, method, headers in product(
                (*OPEN_PATHS, "/ready/", "/", "/nowhere"),
                ("GET", "HEAD", "POST", "OPTIONS", "TRACE"),
                STRANGERS,
            ):
                url = f"http://127.0.0.1:{agent.status_bind.port}{path}"
                answer = await client.request(method, url, headers=headers)
                reported = answer.text + str(answer.headers)
                assert not [secret for secret in SECRETS if secret in reported], (
                    method,
                    path,
                    reported,
                )
        if "token" in settings:
            told_all = await _reasons(agent, **BEARER)
            assert "recorder may not write" in told_all["store"]
            assert "BTCUSDT 1m" in told_all["series"]


@pytest.mark.logs("store_unavailable", "rows_lost")
async def test_this_machine_learns_everything_where_nobody_else_can_ask(
    autojump_clock: MockClock,
) -> None:
    """Except for a foreign web page in a browser on it."""
    async with _suffering(status_bind=LOCAL) as (agent, _):
        reported = await _reasons(agent)
        assert "recorder may not write" in reported["store"]
        assert "BTCUSDT 1m" in reported["series"]
        assert reported["feeds"].startswith("feed 1 has had no connection for ")
        for page in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}):
            assert set((await _reasons(agent, **page)).values()) <= set(PLAIN.values())


async def test_before_the_exchange_has_answered(autojump_clock: MockClock) -> None:
    """Its address is hidden from unauthorized clients as well."""
    market = RandomMarket(symbols=3, seed=1, start_ms=FEBRUARY_2026_MS, venue_name="usdm")
    config = Config(
        symbols=("BTCUSDT",),
        store="memory:",
        agent_ip="127.0.0.1",
        rest_url="https://rest.internal",
        command_bind=LOCAL,
        status_bind=EVERYWHERE,
        read_bind=None,
        token=TOKEN,
    )
    async with (
        open_exchange(market, venue_named("usdm"), tick_ms=MINUTE_MS) as exchange,
        trio.open_nursery() as connections,
    ):
        network = TwinNetwork(exchange, connections)
        with exchange.offline():
            async with open_agent(config, network=network, store=MemoryStore()) as agent:
                await trio.sleep(60)
                assert (await _reasons(agent))["exchange"] == PLAIN["exchange"]
                assert (await _reasons(agent, **BEARER))["exchange"] != PLAIN["exchange"]
        connections.cancel_scope.cancel(reason="the simulation is over")
