"""A manager as they were written for the old agent: plain HTTP, nothing of klineagent's code."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

BATCH = 20
# What the old manager gave the agent: queries 10 s, a whole batch 30 s.
QUERY_WITHIN_S = 10
BATCH_WITHIN_S = 30


class Manager:
    """Waits for agents to register and hands them symbols."""

    def __init__(self) -> None:
        self.agents: list[dict[str, Any]] = []
        self.registered = threading.Event()
        self.port = 0

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Accept registrations on a free port while the block lasts."""
        manager = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert self.path == "/register"
                manager.agents.append(json.loads(body))
                answer = b'{"status":"ok"}'
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)
                manager.registered.set()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            self.port = server.server_address[1]
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            try:
                yield
            finally:
                server.shutdown()
                thread.join()

    def drive(self, symbols: list[str]) -> dict[str, Any]:
        """Do what the old manager did with a new agent; return its last status."""
        assert self.registered.wait(QUERY_WITHIN_S)
        agent = self.agents[-1]
        url = f"http://{agent['ip']}:{agent['port']}"
        assert _get(f"{url}/ping") == {"status": "ok", "message": "pong"}
        running = {each["symbol"] for each in _get(f"{url}/connections/list")["connections"]}
        missing = [symbol for symbol in symbols if symbol not in running]
        for start in range(0, len(missing), BATCH):
            batch = missing[start : start + BATCH]
            answer = _post(f"{url}/symbols/add", {"symbols": batch}, BATCH_WITHIN_S)
            assert answer["status"] == "ok", answer
            assert answer["summary"]["success_count"] == len(batch)
        status = _get(f"{url}/status")
        assert status["status"] == "ok"
        return status


def _get(url: str) -> dict[str, Any]:
    return _open(urllib.request.Request(url), QUERY_WITHIN_S)


def _post(url: str, body: object, within_s: float) -> dict[str, Any]:
    headers = {"Content-Type": "application/json"}
    data = json.dumps(body).encode()
    return _open(urllib.request.Request(url, data=data, headers=headers), within_s)


def _open(request: urllib.request.Request, within_s: float) -> dict[str, Any]:
    with urllib.request.urlopen(request, timeout=within_s) as response:
        answer: dict[str, Any] = json.load(response)
        return answer
