"""Processes that tell of themselves."""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from klineagent.bench.child import BenchFailed, Child, open_child
from klineagent.cli.running import first_of

WITHIN_S = 20


@asynccontextmanager
async def python(source: str, **environ: str) -> AsyncIterator[Child]:
    """A process that runs `source`, while the block lasts."""
    command = [sys.executable, "-c", source]
    with trio.fail_after(WITHIN_S):
        async with open_child("it", command, tells_on="stdout", environ=environ) as child:
            yield child


async def failure_of(source: str) -> str:
    """Why a process does not tell that it is ready."""
    with pytest.RaisesGroup(BenchFailed, flatten_subgroups=True) as caught:
        async with python(source) as child:
            await child.told("ready")
    return str(first_of(caught.value))


async def test_what_it_tells_is_heard() -> None:
    """Each event by its name, in whatever order one asks; other lines do no harm."""
    source = """if True:
        import os, time
        print("warming up")
        print('{"event": "ready", "port": 7}')
        print('{"event": "measured", "figure": "' + os.environ["FIGURE"] + '"}', flush=True)
        time.sleep(600)
    """
    async with python(source, FIGURE="9") as child:
        assert (await child.told("measured"))["figure"] == "9"
        assert (await child.told("ready"))["port"] == 7
        assert (child.cpu_s() or 0) >= 0
    # Nobody waits for ten minutes.
    assert child.process.returncode is not None


async def test_what_it_tells_again_is_told_apart() -> None:
    """The first time and the second; it waits for its cue."""
    source = """if True:
        for figure in (7, 8):
            input()
            print('{"event": "measured", "figure": %d}' % figure, flush=True)
    """
    async with python(source) as child:
        await child.go()
        assert (await child.told("measured"))["figure"] == 7
        await child.go()
        assert (await child.told("measured", 1))["figure"] == 8
        assert (await child.told("measured"))["figure"] == 7


async def test_who_does_not_end_is_made_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is too busy to be asked is not waited for."""
    monkeypatch.setattr("klineagent.bench.child._ENDS_WITHIN_S", 0.01)
    source = """if True:
        import signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print('{"event": "ready"}', flush=True)
        time.sleep(600)
    """
    async with python(source) as child:
        await child.told("ready")
    assert child.process.returncode == -signal.SIGKILL


async def test_patience_has_an_end() -> None:
    """What does not come is told, and by whom."""
    with pytest.RaisesGroup(BenchFailed, flatten_subgroups=True) as caught:
        async with python("import time; time.sleep(600)") as child:
            await child.told_within(0.01, "ready")
    assert str(first_of(caught.value)) == "it has not told 'ready' within 0.01 s"


async def test_its_own_reason_is_told() -> None:
    """It gives up in good order."""
    source = """print('{"event": "failed", "error": "no such folder"}')"""
    assert await failure_of(source) == "it: no such folder"


async def test_its_last_words_are_told() -> None:
    """It ends without telling anything, or nothing at all."""
    assert await failure_of("print('so long')") == "it ended too early: so long"
    assert await failure_of("") == "it ended too early: it gave no reason"
