"""Notifications to a service manager, through a real socket."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
import trio.testing

from klineagent.process.systemd import ServiceManager, open_service_manager, service_manager_of
from tests.processes import READY_WITHIN_S, running_agent, running_twin

HEARD_WITHIN_S = 10


class Ear:
    """The service manager's end of the socket."""

    def __init__(self, address: str) -> None:
        self._socket = trio.socket.from_stdlib_socket(_bound(address))

    async def advance(self) -> list[str]:
        """Receive the next message, as lines."""
        with trio.fail_after(HEARD_WITHIN_S):
            return (await self._socket.recv(4096)).decode().splitlines()

    async def hear_of(self, assignment: str) -> list[str]:
        """Receive the next message with this beginning, skipping watchdog messages."""
        while (message := await self.advance()) == ["WATCHDOG=1"] != [assignment]:
            pass
        assert message[0] == assignment
        return message

    def close(self) -> None:
        self._socket.close()


def _bound(address: str) -> socket.socket:
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    bound.bind(address)
    return bound


@pytest.fixture(params=["path", "abstract"])
def notify_socket(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address as service managers write it into the environment."""
    return str(tmp_path / "notify") if request.param == "path" else f"@klineagent-{os.getpid()}"


@pytest.fixture
async def ear(notify_socket: str) -> AsyncIterator[Ear]:
    """The listener at that address."""
    ear = Ear(notify_socket.replace("@", "\0", 1))
    yield ear
    ear.close()


async def test_the_service_manager_is_notified(notify_socket: str, ear: Ear) -> None:
    """One datagram per message, one assignment per line."""
    manager = service_manager_of({"NOTIFY_SOCKET": notify_socket})
    await manager.ready("7 streams")
    assert await ear.advance() == ["READY=1", "STATUS=7 streams"]
    await manager.reloading()
    reloading, since = await ear.advance()
    assert (reloading, since[:15]) == ("RELOADING=1", "MONOTONIC_USEC=")
    assert since[15:].isdecimal()
    await manager.stopping()
    assert (await ear.advance())[0] == "STOPPING=1"


async def test_the_watchdog_is_notified_twice_in_its_interval(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    """From the first moment of the block to its last."""
    ear = Ear(str(tmp_path / "notify"))
    environ = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "30000000"}
    async with open_service_manager(environ):
        await trio.sleep(100)
    heard = 0
    with trio.move_on_after(1):
        while await ear.advance() == ["WATCHDOG=1"]:
            heard += 1
    assert heard == 7
    ear.close()


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"NOTIFY_SOCKET": ""},
        {"NOTIFY_SOCKET": "vsock:2:1234"},
        {"WATCHDOG_USEC": "1000000"},
    ],
)
async def test_without_a_service_manager_nothing_is_sent(environ: dict[str, str]) -> None:
    """Nothing fails, and no task runs."""
    assert service_manager_of(environ) == ServiceManager()
    async with open_service_manager(environ) as manager:
        await manager.ready("")
        assert not trio.lowlevel.current_task().child_nurseries[0].child_tasks


@pytest.mark.parametrize(
    ("environ", "watchdog_s"),
    [
        ({"WATCHDOG_USEC": "1500000"}, 1.5),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": str(os.getpid())}, 1.5),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_that_of_this_process(
    environ: dict[str, str], watchdog_s: float | None
) -> None:
    """Variables that were meant for a shell in between are ignored."""
    assert service_manager_of({"NOTIFY_SOCKET": "/run/notify", **environ}).watchdog_s == watchdog_s


async def test_a_service_manager_that_is_gone_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The agent goes on without it."""
    await ServiceManager(address=str(tmp_path / "gone")).ready("")
    assert [record.getMessage() for record in caplog.records] == ["notify_failed"]


async def test_a_service_manager_that_does_not_read_holds_up_nothing(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The wait for room in a full queue is bounded."""
    address = str(tmp_path / "notify")
    ear = Ear(address)
    while not caplog.records:
        await ServiceManager(address=address).ready("x" * 1000)
    assert caplog.records[0].getMessage() == "notify_failed"
    ear.close()


async def test_a_service_from_its_start_to_its_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ready once it listens; watchdog messages; reloading at SIGHUP; stopping at the end."""
    address = str(tmp_path / "notify")
    ear = Ear(address)
    file = tmp_path / "agent.toml"
    file.write_text('[klineagent]\nlog_level = "info"\n')
    async with running_twin() as (_, twin):
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        monkeypatch.setenv("WATCHDOG_USEC", "200000")
        async with running_agent(twin, "memory:", options=["--config", str(file)]) as (
            agent,
            listening,
        ):
            _, status = await ear.hear_of("READY=1")
            assert status == (
                f"STATUS=commands on {listening['command']}, status on {listening['status']}"
            )
            assert await ear.hear_of("WATCHDOG=1")
            file.write_text('[klineagent]\nlog_level = "debug"\nhistory = 1\n')
            agent.process.send_signal(signal.SIGHUP)
            await ear.hear_of("RELOADING=1")
            await ear.hear_of("READY=1")
            with trio.fail_after(READY_WITHIN_S):
                reloaded = await agent.logged("reloaded")
            assert reloaded["log_level"] == "debug"
            assert reloaded["needs_restart"] == ["history"]
            file.write_text("[klineagent]\nlog_level = 7\n")
            agent.process.send_signal(signal.SIGHUP)
            with trio.fail_after(READY_WITHIN_S):
                failed = await agent.logged("reload_failed")
            assert str(file) in str(failed["error"])
            await ear.hear_of("RELOADING=1")
            await ear.hear_of("READY=1")
            agent.process.send_signal(signal.SIGTERM)
            await ear.hear_of("STOPPING=1")
        assert agent.process.returncode == 0
    ear.close()
