"""The agent as production runs it: TLS to the exchange, websocket and REST."""

from __future__ import annotations

import ssl
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme
from attrs import evolve
from trio.testing import MockClock

from klineagent.agent import forwarded_venues, open_agent
from klineagent.api.server.listen import open_listener
from klineagent.config.loading import load_config
from klineagent.config.model import Config
from klineagent.core.address import Bind
from klineagent.core.errors import ConfigError, StartError
from klineagent.core.interval import MINUTE_MS, Interval
from klineagent.storage.memory.store import MemoryStore
from klineagent.storage.spool.disk import Folder
from klineagent.storage.spool.spool import open_spool
from klineagent.testing.simulation import FEBRUARY_2026_MS, open_simulation
from klineagent.twin.exchange import open_exchange
from klineagent.twin.market.random import RandomMarket
from klineagent.twin.server import converse
from klineagent.twin.venues import USDM
from tests.storage.spools import NO_LIMIT, candles, drained

WITHIN_S = 30
SPEED = 600
LOOPBACK = Bind("127.0.0.1", 0)


def _config(port: int, **settings: object) -> Config:
    return Config(
        symbols=["BTCUSDT"],
        intervals=[Interval.M1],
        store="memory:",
        ws_url=f"wss://localhost:{port}/market",
        rest_url=f"https://localhost:{port}",
        command_bind=LOOPBACK,
        status_bind=LOOPBACK,
        read_bind=None,
        **settings,
    )


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A server's TLS context, signed by an authority that this process trusts."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    return context


async def test_candles_come_over_tls(trusted: ssl.SSLContext) -> None:
    """`wss` and `https` with a certificate that is checked, as against the exchange itself."""
    market = RandomMarket(symbols=1, seed=1, start_ms=FEBRUARY_2026_MS, venue_name="usdm")
    store = MemoryStore()
    async with open_exchange(market, USDM, speed=SPEED) as exchange, trio.open_nursery() as nursery:
        listeners = await nursery.start(
            partial(trio.serve_ssl_over_tcp, partial(converse, exchange), 0, trusted)
        )
        port = listeners[0].transport_listener.socket.getsockname()[1]
        with trio.fail_after(WITHIN_S):
            async with open_agent(_config(port), store=store) as agent:
                await exchange.clock.sleep_until(exchange.clock.now_ms() + 20 * MINUTE_MS)
                assert all(info.is_active for info in agent.registry.listing())
        nursery.cancel_scope.cancel()
    minutes = await store.final_klines("usdm", "BTCUSDT", "1m")
    assert len(minutes) >= 15
    opens = [minute.open_time for minute in minutes]
    assert opens == list(range(opens[0], opens[-1] + 1, MINUTE_MS))


async def test_a_certificate_nobody_vouches_for_is_told(
    trusted: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither websocket nor REST talk to it, and the log says why."""
    monkeypatch.delenv("SSL_CERT_FILE")
    market = RandomMarket(symbols=1, seed=1, start_ms=FEBRUARY_2026_MS, venue_name="usdm")
    async with open_exchange(market, USDM) as exchange, trio.open_nursery() as nursery:
        listeners = await nursery.start(
            partial(trio.serve_ssl_over_tcp, partial(converse, exchange), 0, trusted)
        )
        port = listeners[0].transport_listener.socket.getsockname()[1]
        with trio.move_on_after(1):
            async with open_agent(_config(port), store=MemoryStore()):
                await trio.sleep_forever()
        nursery.cancel_scope.cancel()
    told = [vars(record)["error"] for record in caplog.records if record.msg.startswith("symbols_")]
    assert any("CERTIFICATE_VERIFY_FAILED" in error for error in told), told


async def test_more_symbols_than_allowed_are_refused_at_the_start() -> None:
    """A configuration that contradicts itself is told before anything runs."""
    config = Config(
        symbols=["A", "B"],
        max_symbols=1,
        store="memory:",
        status_bind=LOOPBACK,
        read_bind=None,
        command_bind=LOOPBACK,
    )
    with pytest.raises(ConfigError, match="exceed max_symbols"):
        async with open_agent(config):
            pass


@pytest.mark.parametrize(
    ("settings", "is_told"),
    [
        ({"ws_url": "ws://127.0.0.1:9090/market"}, True),
        ({"rest_url": "http://localhost:9090"}, True),
        ({"ws_url": "ws://[::1]:9090/market", "rest_url": "http://127.0.0.1:9090"}, False),
        ({"ws_url": "wss://elsewhere.test/market"}, False),
        (
            {
                "symbols": ["BTCUSDT", "spot:BTCUSDT"],
                "ws_url": "ws://127.0.0.1:9090/market",
                "rest_url": "http://127.0.0.1:9090",
            },
            True,
        ),
    ],
)
async def test_half_a_twin_is_told(
    autojump_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
    settings: dict[str, Any],
    is_told: bool,
) -> None:
    """Its streams and the candles of the real exchange would make one table."""
    async with open_simulation(**settings):
        told = [record.msg for record in caplog.records]
    assert ("two_exchanges" in told) is is_told


@pytest.mark.parametrize("server", ["command_bind", "status_bind", "read_bind"])
async def test_a_port_that_is_taken_stops_the_start(tmp_path: Path, server: str) -> None:
    """Before the database is touched, or anything else; the error names the option."""
    binds = {"command_bind": LOOPBACK, "status_bind": LOOPBACK, "read_bind": None}
    async with open_listener(LOOPBACK) as other:
        binds[server] = other.bind
        told = f"cannot listen on {other.bind}: .*in use; .*--{server.replace('_', '-')}"
        with pytest.raises(StartError, match=told):
            async with open_agent(Config(store=f"chdb://{tmp_path}/klines", **binds)):
                pass
    assert not list(await trio.Path(tmp_path).iterdir())


async def test_an_agent_that_is_started_twice_leaves_an_earlier_spool_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first would not list what the second moved into its spool."""
    monkeypatch.chdir(tmp_path)
    given = {"store": "chdb:data", "symbols": "BTCUSDT,spot:BTCUSDT"}
    binds = dict.fromkeys(("command_bind", "status_bind", "read_bind"), LOOPBACK)
    config = evolve(load_config(given, {}, None), **binds)
    ours, [old] = config.spool_folder, config.earlier_spools
    assert ours is not None
    async with open_spool(Folder(old), limit_bytes=NO_LIMIT) as spool:
        await spool.append(candles(1))
    async with open_spool(Folder(ours), limit_bytes=NO_LIMIT):
        with pytest.RaisesGroup(
            pytest.RaisesExc(StartError, match="in use by another agent"),
            allow_unwrapped=True,
            flatten_subgroups=True,
        ):
            async with open_agent(config, store=MemoryStore()):
                pass
    async with open_spool(Folder(old), limit_bytes=NO_LIMIT) as spool:
        assert await drained(spool) == [candles(1)]


def test_requests_are_not_passed_on_to_another_exchange_than_the_agents() -> None:
    """With a twin of one venue, the real exchange of another is not asked."""
    twin = "http://127.0.0.1:9"
    for given, names in (
        ({}, set()),
        ({"forward": True}, {"usdm", "coinm", "spot"}),
        ({"forward": True, "rest_url": twin}, {"usdm"}),
        ({"forward": True, "rest_url": [twin, f"spot={twin}"]}, {"usdm", "spot"}),
        ({"forward": True, "rest_url": f"spot={twin}"}, {"usdm", "coinm"}),
    ):
        config = load_config(given, {}, None)
        assert {each.name for each in forwarded_venues(config)} == names
