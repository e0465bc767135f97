"""Child processes report events as lines of JSON."""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from klineagent.bench.child import BenchFailed, Child, open_child
from klineagent.core.errors import first_of

WITHIN_S = 20


@asynccontextmanager
async def python(source: str, **environ: str) -> AsyncIterator[Child]:
    """Run `source` in a process while the block lasts."""
    command = [sys.executable, "-c", source]
    with trio.fail_after(WITHIN_S):
        async with open_child("it", command, reports_on="stdout", environ=environ) as child:
            yield child


async def failure_of(source: str) -> str:
    """The error of a process that never reports `ready`."""
    with pytest.RaisesGroup(BenchFailed, flatten_subgroups=True) as caught:
        async with python(source) as child:
            await child.event("ready")
    return str(first_of(caught.value))


async def test_events_are_found_by_name() -> None:
    """In any order; lines that are no events do no harm."""
    source = """if True:
        import os, time
        print("warming up")
        print('{"event": "ready", "port": 7}')
        print('{"event": "measured", "figure": "' + os.environ["FIGURE"] + '"}', flush=True)
        time.sleep(600)
    """
    async with python(source, FIGURE="9") as child:
        assert (await child.event("measured"))["figure"] == "9"
        assert (await child.event("ready"))["port"] == 7
        assert (child.cpu_s() or 0) >= 0
    # The process would sleep for ten minutes.
    assert child.process.returncode is not None


async def test_repeated_events_are_numbered() -> None:
    """The first and the second report differ; the process waits for `go` in between."""
    source = """if True:
        for figure in (7, 8):
            input()
            print('{"event": "measured", "figure": %d}' % figure, flush=True)
    """
    async with python(source) as child:
        await child.go()
        assert (await child.event("measured"))["figure"] == 7
        await child.go()
        assert (await child.event("measured", 1))["figure"] == 8
        assert (await child.event("measured"))["figure"] == 7


async def test_a_process_that_ignores_sigterm_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The block does not wait for it any longer."""
    monkeypatch.setattr("klineagent.bench.child._ENDS_WITHIN_S", 0.01)
    source = """if True:
        import signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print('{"event": "ready"}', flush=True)
        time.sleep(600)
    """
    async with python(source) as child:
        await child.event("ready")
    assert child.process.returncode == -signal.SIGKILL


async def test_waiting_for_an_event_has_a_limit() -> None:
    """The error names the process and the event."""
    with pytest.RaisesGroup(BenchFailed, flatten_subgroups=True) as caught:
        async with python("import time; time.sleep(600)") as child:
            await child.event_within(0.01, "ready")
    assert str(first_of(caught.value)) == "it did not report 'ready' within 0.01 s"


async def test_a_reported_reason_is_shown() -> None:
    """The process reports `failed` with its reason."""
    source = """print('{"event": "failed", "error": "no such folder"}')"""
    assert await failure_of(source) == "it: no such folder"


async def test_the_last_lines_are_the_reason_otherwise() -> None:
    """The process ends without an event, with or without other output."""
    assert await failure_of("print('so long')") == "it ended too early: so long"
    assert await failure_of("") == "it ended too early: it gave no reason"
