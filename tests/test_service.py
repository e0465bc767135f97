"""`klineagent serve` as its users meet it: driven by a fleet manager, loaded, stopped, misused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
import trio

from klineagent.core.interval import MINUTE_MS
from klineagent.process.signals import ONE_SIGNAL_S
from klineagent.storage.opening import open_store
from tests.manager import Manager
from tests.processes import running, running_agent, running_twin, time_passed
from tests.servers import free_port

# A machine busy with other tests gets much more than either takes.
COMMANDED_WITHIN_S = 120
STOP_WITHIN_S = 20
# Longer than that, so that a test notices an agent that waits for the drain.
DRAIN = ("--drain-timeout-s", "60")


def _client(address: object) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=f"http://{address}", timeout=COMMANDED_WITHIN_S)


async def test_a_manager_of_the_old_agent_drives_this_one(tmp_path: Path) -> None:
    """Registration, ping, list, symbols in batches of 20 and status work as they ever did."""
    manager = Manager()
    with manager.serving():
        async with running_twin("--symbols", "45") as (_, twin):
            managed = ["--agent-ip", "127.0.0.1", "--register-ip", "127.0.0.1"]
            managed += ["--register-port", str(manager.port)]
            async with running_agent(twin, f"chdb://{tmp_path}/klines", options=managed) as (
                agent,
                _,
            ):
                symbols = [str(symbol) for symbol in twin["symbols"]][:45]  # type: ignore[attr-defined]
                status = await trio.to_thread.run_sync(manager.drive, symbols)
                assert status["symbols"] == sorted(symbols)
                assert status["connection_count"] == 45 * 7
                assert await agent.stop() < STOP_WITHIN_S


async def test_requests_are_answered_while_a_thousand_streams_run(tmp_path: Path) -> None:
    """A hundred concurrent requests to every endpoint all succeed beside the market's traffic."""
    async with (
        running_twin("--symbols", "150", "--speed", "20") as (_, twin),
        running_agent(twin, f"chdb://{tmp_path}/klines", options=["--max-symbols", "200"]) as (
            agent,
            listening,
        ),
        _client(listening["command"]) as http,
        httpx2.AsyncClient(
            base_url=f"http://{listening['status']}", timeout=COMMANDED_WITHIN_S
        ) as status,
    ):
        symbols = [str(symbol) for symbol in twin["symbols"]]  # type: ignore[attr-defined]  # JSON
        added = await http.post("/symbols/add", json={"symbols": symbols[:143]})
        assert added.json()["current_status"]["connection_count"] == 1001
        spare = symbols[143:148]

        async def ask(number: int) -> None:
            body = {"symbol": spare[number % 5], "interval": f"{1 if number % 2 else 5}m"}
            answers = [
                await http.get("/ping"),
                await http.get("/status"),
                await http.get("/connections/count"),
                await http.get("/connections/list"),
                await http.get("/symbols"),
                await status.get("/ping"),
                await http.post("/streams/add", json=body),
                await http.post("/symbols/add", json={"symbols": [symbols[number]]}),
            ]
            assert [answer.status_code for answer in answers] == [200] * len(answers)
            removed = await http.post("/streams/remove", json=body)
            assert removed.status_code in {200, 404}  # another one may have been faster

        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(ask, number)
        count = (await http.get("/connections/count")).json()["connection_count"]
        assert 1001 <= count <= 1011
        assert await agent.stop() < STOP_WITHIN_S
        assert agent.process.returncode == 0


async def test_added_and_removed_streams_start_and_stop_flowing(tmp_path: Path) -> None:
    """What is added is stored; what is removed gets no rows any more."""
    store_url = f"chdb://{tmp_path}/klines"
    async with (
        running_twin("--symbols", "3", "--speed", "600") as (_, twin),
        running_agent(twin, store_url) as (agent, listening),
        _client(listening["command"]) as http,
    ):
        for symbol in ("BTCUSDT", "ETHUSDT"):
            added = await http.post("/streams/add", json={"symbol": symbol, "interval": "1m"})
            assert added.json()["message"] == f"Added stream for {symbol} 1m"
        await time_passed(twin, 10 * MINUTE_MS)
        await http.post("/streams/remove", json={"symbol": "ETHUSDT", "interval": "1m"})
        await time_passed(twin, 10 * MINUTE_MS)
        listed = (await http.get("/connections/list")).json()["connections"]
        assert [(each["symbol"], each["is_active"]) for each in listed] == [("BTCUSDT", True)]
        assert await agent.stop() < STOP_WITHIN_S
    async with open_store(store_url) as store:
        stored = {each.symbol: each.closed for each in await store.summary()}
    assert stored["BTCUSDT"] > stored["ETHUSDT"] + 5


async def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    """Who asks twice does not want to wait: the drain is cut short."""
    async with (
        running_twin("--speed", "60") as (_, twin),
        running_agent(
            twin,
            # No server listens there: the drain would take its whole deadline.
            "clickhouse://127.0.0.1:1/market",
            "BTCUSDT",
            options=DRAIN,
        ) as (agent, _),
    ):
        with trio.fail_after(COMMANDED_WITHIN_S):
            await agent.logged("feed_opened")
            await time_passed(twin, MINUTE_MS)
        agent.process.send_signal(signal.SIGTERM)
        with trio.fail_after(STOP_WITHIN_S):
            await agent.logged("stopping")
            await trio.sleep(ONE_SIGNAL_S * 1.5)  # sooner it would be an echo of the first
            agent.process.send_signal(signal.SIGINT)
            await agent.process.wait()
        assert agent.process.returncode == 128 + signal.SIGINT


async def test_it_starts_without_the_exchange_and_takes_up_when_it_comes(tmp_path: Path) -> None:
    """An unreachable exchange is logged and tried again; no restart is needed."""
    bind = f"127.0.0.1:{free_port()}"
    async with running_twin("--bind", bind, "--speed", "60") as (_, twin):
        pass  # only its address is needed
    async with running_agent(twin, f"chdb://{tmp_path}/klines", "BTCUSDT") as (agent, listening):
        await agent.logged("symbols_unavailable")
        async with _client(listening["command"]) as http:
            # Those of the command line come after a moment for the exchange to refuse them.
            with trio.fail_after(COMMANDED_WITHIN_S):
                while (await http.get("/status")).json()["symbols"] != ["BTCUSDT"]:  # noqa: ASYNC110
                    await trio.sleep(0.1)
            listed = (await http.get("/connections/list")).json()["connections"]
            assert not any(each["is_active"] for each in listed)
        async with running("simulate", "--bind", bind, "--speed", "60"):
            with trio.fail_after(COMMANDED_WITHIN_S * 2):
                await agent.logged("feed_opened")
        assert await agent.stop() < STOP_WITHIN_S


def _serve(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "klineagent", "serve", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--intervals", "1m,7m"], "--intervals"),
        (["--intervals", "1s"], "1s"),
        (["--venue", "moon"], "--venue"),
        (["--store", "mysql://x"], "store"),
        (["--command-bind", "nowhere"], "--command-bind"),
        (["--command-bind", "0.0.0.0:0"], "--allow-anonymous"),
        (["--command-bind", "0.0.0.0:0", "--token-file", "/does/not/exist"], "/does/not/exist"),
        (["--command-tls-key", "key.pem"], "command_tls_cert"),
        (["--command-tls-cert", "/does/not/exist.pem"], "/does/not/exist.pem"),
        (["--ca-file", "/does/not/exist.pem"], "/does/not/exist.pem"),
        (["--max-symbols", "0"], "--max-symbols"),
        (["--max-symbols", "1", "BTCUSDT", "ETHUSDT"], "max_symbols"),
        (["--register-port", "8000"], "register_ip"),
        (["--command-bind", "7000", "--status-bind", "7000"], "7000"),
        (["--grace", "1e9"], "--grace"),
        (["--ws-url", "http://x"], "--ws-url"),
        (["--log-format", "xml"], "--log-format"),
        (["--config", "/does/not/exist.toml"], "/does/not/exist.toml"),
        (["--no-such-option"], "--no-such-option"),
    ],
)
def test_an_unusable_option_is_one_line_that_names_it(arguments: list[str], named: str) -> None:
    """Exit code 2, a reason on stderr, no stack trace."""
    ended = _serve(*arguments)
    assert ended.returncode == 2
    assert named in ended.stderr.strip().splitlines()[-1]
    assert "Traceback" not in ended.stderr


def test_a_name_that_no_symbol_can_have_stops_the_start() -> None:
    """It never resolves, and ends the start at once with exit code 2."""
    ended = _serve("BTCUSDT", "ETH/USDT", "--store", "memory:")
    assert ended.returncode == 2
    assert "ETH/USDT" in ended.stderr.strip().splitlines()[-1]
    assert "Traceback" not in ended.stderr


async def test_an_address_that_is_taken_stops_the_start(tmp_path: Path) -> None:
    """Exit code 1 and one line that names the address."""
    async with (
        running_twin() as (_, twin),
        running_agent(twin, "memory:") as (_, listening),
    ):
        taken = str(listening["command"])
        arguments = ["--store", "memory:", "--command-bind", taken]
        ended = await trio.to_thread.run_sync(_serve, *arguments)
    assert ended.returncode == 1
    assert taken in ended.stderr.strip().splitlines()[-1]
    assert "Traceback" not in ended.stderr


def test_a_folder_that_holds_something_else_stops_the_start(tmp_path: Path) -> None:
    """Exit code 1 and one line that names what is in the way; waiting would not help."""
    pytest.importorskip("chdb")
    (tmp_path / "metadata").touch()
    nowhere = ["--ws-url", "ws://127.0.0.1:1/market", "--rest-url", "http://127.0.0.1:1"]
    binds = ["--command-bind", "127.0.0.1:0", "--status-bind", "127.0.0.1:0"]
    binds += ["--read-bind", "none"]
    kept = ["--spool", "none", "--state", "none"]
    ended = _serve("BTCUSDT", "--store", f"chdb://{tmp_path}", *nowhere, *binds, *kept)
    assert ended.returncode == 1
    assert f"{tmp_path}/metadata is a file, not a folder" in ended.stderr.strip().splitlines()[-1]
    assert "Traceback" not in ended.stderr


def test_the_demonstration_ends_with_rows_from_the_database() -> None:
    """Without a terminal it tells its progress in lines; it ends with code 0."""
    command = [sys.executable, "-m", "klineagent", "demo", "--seconds", "4", "--speed", "600"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "Read back from chdb:" in ended.stdout
    assert int(ended.stdout.strip().splitlines()[-1].split()[0]) > 100


@pytest.mark.parametrize("number", [None, signal.SIGINT, signal.SIGTERM])
def test_nothing_that_a_demonstration_made_stays(
    tmp_path: Path, number: signal.Signals | None
) -> None:
    """Neither its database nor the spool, however it ends."""
    command = [sys.executable, "-m", "klineagent", "demo", "--seconds", "4", "--speed", "600"]
    environ = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ) as demo:
        assert demo.stdout is not None
        assert demo.stdout.readline().startswith("Look at it: http://127.0.0.1:")
        assert "chdb:" in demo.stdout.readline()
        assert list(tmp_path.glob("*/*-spool-usdm"))
        if number:
            demo.send_signal(number)
        demo.communicate(timeout=60)
    assert list(tmp_path.iterdir()) == []


async def test_two_signals_at_once_are_one(tmp_path: Path) -> None:
    """`timeout` signals a process and then its group; the rows are stored all the same."""
    store_url = f"chdb://{tmp_path}/klines"
    async with (
        running_twin("--speed", "600") as (_, twin),
        running_agent(twin, store_url, "BTCUSDT") as (agent, _),
    ):
        await time_passed(twin, 10 * MINUTE_MS)
        agent.process.send_signal(signal.SIGTERM)
        assert await agent.stop() < STOP_WITHIN_S
        assert agent.process.returncode == 0
    async with open_store(store_url) as store:
        assert await store.summary()


async def test_a_signal_during_the_start_ends_it() -> None:
    """Nothing needs to be drained, so nothing is waited for."""
    silent = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = silent[0].socket.getsockname()[1]
    addresses = ["--ws-url", f"ws://127.0.0.1:{port}", "--rest-url", f"http://127.0.0.1:{port}"]
    binds = ["--command-bind", "127.0.0.1:0", "--status-bind", "127.0.0.1:0"]
    binds += ["--read-bind", "none"]
    store = ["--store", f"clickhouse://127.0.0.1:{port}/market", "--state", "none"]
    async with running("serve", "BTCUSDT", *addresses, *binds, *store, *DRAIN) as agent:
        with trio.fail_after(COMMANDED_WITHIN_S):
            await agent.logged("unusual_ws_url")
        # It now waits for a database that accepts connections and says nothing.
        assert await agent.stop() < STOP_WITHIN_S
        assert agent.process.returncode == 0
    await silent[0].aclose()
