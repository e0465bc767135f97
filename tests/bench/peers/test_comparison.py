"""Other clients beside the agent."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
import trio

from klineagent.bench.certificate import make_certificate
from klineagent.bench.load import Load
from klineagent.bench.peers.clients import INTERVAL, PEERS, Count, Peer, Place
from klineagent.bench.peers.comparison import CONTEST, contest, effort_of
from klineagent.bench.peers.ranking import OURS, OURS_UPDATES
from klineagent.bench.report import entries_table
from klineagent.bench.twin import open_twin
from klineagent.core.errors import ConfigError

PLACE = Place(host="127.0.0.1:9", symbols=tuple(f"C{number}USDT" for number in range(250)))


def test_every_stream_is_asked_for_once() -> None:
    """In requests that the exchange takes."""
    names = [name for request in PLACE.requests() for name in json.loads(request)["params"]]
    assert names == PLACE.streams
    assert names[0] == "c0usdt@kline_1m"
    assert max(len(json.loads(request)["params"]) for request in PLACE.requests()) <= 200


def test_addresses_say_whether_it_is_over_tls() -> None:
    """All of them."""
    assert (PLACE.ws_url, PLACE.rest_url) == ("ws://127.0.0.1:9", "http://127.0.0.1:9")
    secure = Place(host=PLACE.host, symbols=PLACE.symbols, tls=True)
    assert secure.stream_url == "wss://127.0.0.1:9/market/stream"
    assert secure.rest_url == "https://127.0.0.1:9"


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
async def test_every_client_that_is_installed_receives(tls: bool, tmp_path: Path) -> None:
    """From the twin and nobody else, as it would from the exchange; each trusts its certificate."""
    certificate = make_certificate(tmp_path) if tls else None
    installed = [peer for peer in PEERS.values() if peer.version is not None]
    assert len(installed) >= 4
    load = Load(symbols=3, rate="300", seconds=0.5, warm_up_s=0)
    async with (
        open_twin("--rate", "300", symbols=3, certificate=certificate) as twin,
        trio.open_nursery() as nursery,
    ):
        place = Place(host=httpx2.URL(twin.rest_url).netloc.decode(), symbols=twin.symbols, tls=tls)

        async def receive(peer: Peer) -> None:
            effort = await effort_of(peer, place, load, certificate)
            assert effort.messages > 0, peer.name

        for peer in installed:
            nursery.start_soon(receive, peer)


async def test_what_is_installed_competes_and_the_rest_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each in every turn, the agent first; one without its library is left out and told."""
    present = PEERS["trio-websocket, json"]
    absent = Peer("nobody's", "klineagent-nobody", print)
    failing = Peer("unknown to its process", present.distribution, print)
    for name in list(PEERS):
        monkeypatch.delitem(PEERS, name)
    for peer in (present, absent, failing):
        monkeypatch.setitem(PEERS, peer.name, peer)
    load = Load(
        symbols=3, rate="300", seconds=0.5, intervals=(INTERVAL,), warm_up_s=0, is_probed=False
    )
    told: list[str] = []
    with trio.fail_after(60):
        entries = await contest(load, told.append, turns=2)
    clients = [OURS, OURS_UPDATES, present.name, absent.name, failing.name]
    assert [(entry.rate, entry.client) for entry in entries] == [
        (rate, client) for rate in ("max", "300") for client in clients
    ]
    for *ours, theirs, missing, failed in (entries[:5], entries[5:]):
        assert [each.failure for each in (*ours, theirs)] == [None, None, None]
        assert missing.failure == "not installed"
        assert "KeyError" in str(failed.failure)
    for entry in entries:
        if entry.failure is None:
            assert (entry.messages_per_s or 0) > 0
            assert (entry.cpu_us_per_message or 0) > 0
            assert (entry.times_ours or 0) > 0
    assert len(told) == 2 * len(entries)
    assert entries_table(entries).row_count == len(entries)


async def test_without_certificates_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Minutes of plain rounds would be lost."""
    monkeypatch.setitem(sys.modules, "trustme", None)
    told: list[str] = []
    with pytest.raises(ConfigError):
        await contest(CONTEST, told.append, turns=1)
    assert told == []


def test_a_client_that_fails_tells_why() -> None:
    """Whatever its library raises: here nobody listens."""
    command = [sys.executable, "-m", "klineagent.bench.peers.peer", "trio-websocket, json"]
    ended = subprocess.run(
        [*command, json.dumps({"host": "127.0.0.1:9", "symbols": ["BTCUSDT"]}), "0", "1"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert json.loads(ended.stdout)["event"] == "failed"


def test_what_they_count() -> None:
    """Whatever a library calls back with."""
    count = Count()
    count.note()
    count.note({"event": 1}, 2)
    assert count.messages == 2


def test_one_connection_is_enough_for_each() -> None:
    """Cryptofeed opens another one for every two hundred streams."""
    assert CONTEST.streams < 200
