"""Measure the control plane beside live traffic: `make bench`.

The bars: 20 symbols x 7 intervals added in under 5 s; while 1,000 streams run and 100 requests of
all kinds are under way at a time, no error, and status `/ping` p99 under 50 ms; stopped in 5 s.
"""

from __future__ import annotations

import http.client
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import httpx2
import trio

from tests.processes import running_agent, running_twin

CLIENTS = 100
REQUESTS_EACH = 60
PING_EVERY_S = 0.02
WITHIN_S = 30


class Load:
    """A hundred clients that never pause."""

    def __init__(self, command: httpx2.AsyncClient) -> None:
        self.command = command
        self.requests = 0
        self.errors = 0

    async def run(self, symbols: list[str]) -> None:
        """Load the command server until every client is done."""
        async with trio.open_nursery() as clients:
            for number in range(CLIENTS):
                clients.start_soon(self._ask, number, symbols[number % len(symbols)])

    async def _ask(self, number: int, symbol: str) -> None:
        stream = {"symbol": symbol, "interval": "30m"}
        for turn in range(REQUESTS_EACH):
            match (number + turn) % 8:
                case 0:
                    answer = await self.command.post("/streams/add", json=stream)
                case 1:
                    answer = await self.command.post("/symbols/add", json={"symbols": [symbol]})
                case 2:
                    answer = await self.command.post("/streams/remove", json=stream)
                    # Another client may have removed it first.
                    self.errors -= answer.status_code == httpx2.codes.NOT_FOUND
                case rest:
                    paths = ["/ping", "/status", "/connections/count", "/connections/list"]
                    answer = await self.command.get([*paths, "/symbols"][rest - 3])
            self.requests += 1
            self.errors += answer.is_error


def _client(address: object) -> httpx2.AsyncClient:
    limits = httpx2.Limits(max_connections=CLIENTS)
    return httpx2.AsyncClient(base_url=f"http://{address}", timeout=WITHIN_S, limits=limits)


def ping(address: str) -> None:
    """Ping until standard input ends, then print the latencies.

    In a process of its own: a client busy with other requests would measure itself.
    """
    ended = threading.Thread(target=sys.stdin.read)
    ended.start()
    connection = http.client.HTTPConnection(address)
    latencies_ms = []
    while ended.is_alive():
        started = time.perf_counter()
        connection.request("GET", "/ping")
        answer = connection.getresponse()
        assert answer.status == httpx2.codes.OK, answer.read()
        answer.read()
        latencies_ms.append((time.perf_counter() - started) * 1000)
        time.sleep(PING_EVERY_S)
    percentiles = statistics.quantiles(latencies_ms, n=100)
    print(
        f"  status /ping meanwhile: p50 {percentiles[49]:.1f} ms, p99 {percentiles[98]:.1f} ms,"
        f" worst {max(latencies_ms):.1f} ms of {len(latencies_ms)}"
    )


async def measure() -> None:
    """Print what was measured, a line each."""
    with tempfile.TemporaryDirectory() as folder:
        async with (
            running_twin("--symbols", "150") as (_, twin),
            running_agent(twin, f"chdb://{folder}/klines", options=["--max-symbols", "200"]) as (
                agent,
                told,
            ),
            _client(told["command"]) as command,
        ):
            symbols = [str(symbol) for symbol in twin["symbols"]]  # type: ignore[attr-defined]  # JSON
            added = await command.post("/symbols/add", json={"symbols": symbols[:20]})
            print(f"20 symbols x 7 intervals added in {added.elapsed.total_seconds():.3f} s")
            await command.post("/symbols/add", json={"symbols": symbols[20:143]})
            running = (await command.get("/connections/count")).json()["connection_count"]
            load = Load(command)
            started = trio.current_time()
            pinger = [sys.executable, "-m", "tests.bench_control", str(told["status"])]
            pinging = await trio.lowlevel.open_process(pinger, stdin=subprocess.PIPE)
            await load.run(symbols[:143])
            assert pinging.stdin is not None
            await pinging.stdin.aclose()
            await pinging.wait()
            rate = load.requests / (trio.current_time() - started)
            print(f"{running} streams, {CLIENTS} concurrent clients: {load.requests} requests,")
            print(f"  {rate:.0f} a second, {load.errors} errors")
            print(
                f"stopped {await agent.stop():.2f} s after SIGTERM, with {agent.process.returncode}"
            )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        ping(sys.argv[1])
    else:
        trio.run(measure)
