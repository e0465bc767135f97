"""Other clients receive the same frames as the agent."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
import trio

from klineagent.bench.certificate import make_certificate
from klineagent.bench.peers.clients import INTERVAL, PEERS, Count, Peer, PeerTarget
from klineagent.bench.peers.comparison import COMPARISON, compare_peers, effort_of
from klineagent.bench.peers.ranking import OURS, OURS_UPDATES
from klineagent.bench.report import peers_table
from klineagent.bench.twin import open_twin
from klineagent.bench.workload import Workload
from klineagent.core.errors import ConfigError

PLACE = PeerTarget(host="127.0.0.1:9", symbols=tuple(f"C{number}USDT" for number in range(250)))


def test_every_stream_is_subscribed_once() -> None:
    """In requests of a size that the exchange accepts."""
    names = [name for request in PLACE.requests() for name in json.loads(request)["params"]]
    assert names == PLACE.streams
    assert names[0] == "c0usdt@kline_1m"
    assert max(len(json.loads(request)["params"]) for request in PLACE.requests()) <= 200


def test_all_addresses_show_whether_tls_is_used() -> None:
    """Websocket and REST addresses have the scheme of their transport."""
    assert (PLACE.ws_url, PLACE.rest_url) == ("ws://127.0.0.1:9", "http://127.0.0.1:9")
    secure = PeerTarget(host=PLACE.host, symbols=PLACE.symbols, tls=True)
    assert secure.stream_url == "wss://127.0.0.1:9/market/stream"
    assert secure.rest_url == "https://127.0.0.1:9"


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
async def test_every_installed_client_receives(tls: bool, tmp_path: Path) -> None:
    """Each connects to the twin alone and trusts its certificate."""
    certificate = make_certificate(tmp_path) if tls else None
    installed = [peer for peer in PEERS.values() if peer.version is not None]
    assert len(installed) >= 4
    load = Workload(symbols=3, rate="300", seconds=0.5, warm_up_s=0)
    async with (
        open_twin("--rate", "300", symbols={"usdm": 3}, certificate=certificate) as twin,
        trio.open_nursery() as nursery,
    ):
        target = PeerTarget(
            host=httpx2.URL(twin.rest_urls["usdm"]).netloc.decode(),
            symbols=twin.symbols["usdm"],
            tls=tls,
        )

        async def receive(peer: Peer) -> None:
            effort = await effort_of(peer, target, load, certificate)
            assert effort.messages > 0, peer.name

        for peer in installed:
            nursery.start_soon(receive, peer)


async def test_what_is_installed_competes_and_the_rest_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each in every turn, the agent first; a client without its library is listed as such."""
    present = PEERS["trio-websocket, json"]
    absent = Peer("absent", "klineagent-absent", print)
    failing = Peer("unknown to its process", present.distribution, print)
    for name in list(PEERS):
        monkeypatch.delitem(PEERS, name)
    for peer in (present, absent, failing):
        monkeypatch.setitem(PEERS, peer.name, peer)
    load = Workload(
        symbols=3, rate="300", seconds=0.5, intervals=(INTERVAL,), warm_up_s=0, is_probed=False
    )
    announced: list[str] = []
    with trio.fail_after(180):
        results = await compare_peers(load, announced.append, turns=2)
    clients = [OURS, OURS_UPDATES, present.name, absent.name, failing.name]
    assert [(result.rate, result.client) for result in results] == [
        (rate, client) for rate in ("max", "300") for client in clients
    ]
    for *ours, theirs, missing, failed in (results[:5], results[5:]):
        assert [each.failure for each in (*ours, theirs)] == [None, None, None]
        assert missing.failure == "not installed"
        assert "KeyError" in str(failed.failure)
    for result in results:
        if result.failure is None:
            assert (result.messages_per_s or 0) > 0
            assert (result.cpu_us_per_message or 0) > 0
            assert (result.times_ours or 0) > 0
    assert len(announced) == 2 * len(results)
    assert peers_table(results).row_count == len(results)


async def test_without_certificates_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the error would come after minutes of plain rounds."""
    monkeypatch.setitem(sys.modules, "trustme", None)
    announced: list[str] = []
    with pytest.raises(ConfigError):
        await compare_peers(COMPARISON, announced.append, turns=1)
    assert announced == []


def test_a_client_that_fails_reports_why() -> None:
    """Its library may raise anything: here it finds no server."""
    command = [sys.executable, "-m", "klineagent.bench.peers.peer", "trio-websocket, json"]
    ended = subprocess.run(
        [*command, json.dumps({"host": "127.0.0.1:9", "symbols": ["BTCUSDT"]}), "0", "1"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert json.loads(ended.stdout)["event"] == "failed"


def test_a_count_accepts_any_callback_arguments() -> None:
    """Libraries call back with different ones."""
    count = Count()
    count.note()
    count.note({"event": 1}, 2)
    assert count.messages == 2


def test_each_client_needs_one_connection_only() -> None:
    """Cryptofeed opens another one for every two hundred streams."""
    assert COMPARISON.streams < 200
