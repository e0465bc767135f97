"""Signals that terminals and supervisors send to an agent."""

from __future__ import annotations

import os
import pty
import signal
import sys

import pytest
import trio

from klineagent.config.model import Config
from klineagent.process.signals import reloaded_by_signal
from klineagent.process.systemd import ServiceManager
from klineagent.service import Reload
from tests.processes import running_twin

DONE_WITHIN_S = 60


async def test_each_sighup_reloads_once_more() -> None:
    """Reloads run one after the other; after the block SIGHUP has no effect."""
    before = signal.getsignal(signal.SIGHUP)
    reloaded = 0
    done = trio.Event()

    async def reload() -> None:
        nonlocal reloaded, done
        await trio.lowlevel.checkpoint()
        reloaded += 1
        done.set()

    async with reloaded_by_signal(reload):
        for times in (1, 2):
            done = trio.Event()
            os.kill(os.getpid(), signal.SIGHUP)
            with trio.fail_after(DONE_WITHIN_S):
                await done.wait()
            assert reloaded == times
    assert signal.getsignal(signal.SIGHUP) == before


async def test_nothing_is_reloaded_during_the_start_or_the_stop() -> None:
    """The configuration file is not even read."""
    reload = Reload(
        config=Config(), reread=lambda: pytest.fail("read"), service_manager=ServiceManager()
    )
    await reload()


async def test_a_terminal_that_is_closed_ends_its_agent() -> None:
    """It stops in order, as after SIGTERM."""
    ours, its = pty.openpty()
    said = b""

    async def read_until(words: bytes) -> None:
        nonlocal said
        while words not in said:
            await trio.lowlevel.wait_readable(ours)
            said += os.read(ours, 65_536)

    async with running_twin() as (_, twin):
        where = [
            *("--ws-url", str(twin["ws_url"]), "--rest-url", str(twin["rest_url"])),
            *("--command-bind", "127.0.0.1:0", "--status-bind", "127.0.0.1:0"),
            *("--read-bind", "none"),
            *("--store", "memory:"),
        ]
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "klineagent", "serve", *where], stderr=its
        )
        try:
            with trio.fail_after(DONE_WITHIN_S):
                await read_until(b"listening")
                process.send_signal(signal.SIGHUP)
                await read_until(b"SIGHUP")
                await read_until(b"stopped")
                assert await process.wait() == 0
        finally:
            process.kill()
            with trio.move_on_after(DONE_WITHIN_S, shield=True):
                await process.wait()
    os.close(its)
    os.close(ours)
