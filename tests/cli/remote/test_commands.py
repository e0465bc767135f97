"""The commands as they are typed, to a real agent that records from the twin."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import termios
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import httpx2
import pytest
import trio

from tests.cli.remote.scripted import answering
from tests.cli.typed import Ended, typed_aside
from tests.processes import running_agent, running_twin

TOKEN = "0123456789abcdef"
DONE_WITHIN_S = 60


Typed = Callable[..., Awaitable["Ended"]]


async def test_an_operators_day(tmp_path: Path) -> None:
    """Every command works against an agent that requires a token, and fails without the token."""
    token_file = tmp_path / "token"
    token_file.write_text(TOKEN)
    options = ["--token-file", str(token_file), "--intervals", "1m,5m", "--history", "10"]
    async with (
        running_twin("--symbols", "5", "--speed", "60") as (_, twin),
        running_agent(twin, "memory:", "BTCUSDT", options=options) as (_, listening),
    ):
        agent = f"http://{listening['command']}"
        typed = partial(typed_aside, KLINEAGENT_AGENT=agent, KLINEAGENT_TOKEN=TOKEN)
        await _look(typed, agent)
        await _change(typed)
        for denied in (
            await typed_aside("status", "--agent", agent),
            await typed("status", KLINEAGENT_TOKEN=TOKEN[::-1]),
        ):
            assert denied.code == 4
            assert len(denied.err.splitlines()) == 1
            assert "--token-file" in denied.err
        by_file = await typed_aside("status", "--agent", agent, "--token-file", str(token_file))
        assert by_file.code == 0


async def _look(typed: Typed, agent: str) -> None:
    async def ask(*words: str) -> Ended:
        ended = await typed(*words)
        assert ended.code == 0, ended.err
        # Spans are sentences, which a pipe gets whole.
        assert "--json" in words or all(
            len(line) <= 80 or ": " in line for line in ended.out.splitlines()
        )
        return ended

    assert ["streams", "2", "of", "1", "symbol"] in (await ask("status")).rows
    answers = json.loads((await ask("status", "--json")).out)
    assert answers["status"] == {"status": "ok", "connection_count": 2, "symbols": ["BTCUSDT"]}
    assert {"feeds", "limits"} < answers.keys()
    assert any(row[:2] == ["BTCUSDT", "2"] for row in (await ask("list")).rows)
    async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {TOKEN}"}) as http:
        listed = (await http.get(f"{agent}/connections/list")).text
    assert (await ask("list", "--json")).out.strip() == listed
    assert "configuration" in (await ask("list", "--set")).out
    assert any(row[:2] == ["BTCUSDT", "1m"] for row in (await ask("coverage", "btcusdt")).rows)
    coverage = json.loads((await ask("coverage", "--json")).out)
    assert [each["interval"] for each in coverage["series"]] == ["1m", "5m"]
    assert "not covered" in (await ask("why", "BTCUSDT", "1m", "2020-01-01T00:00")).out
    for within in ("2020-01-01T12:34:56", "2020-01-01T13:34:56+01:00", "1577882096000"):
        assert "BTCUSDT 5m 2020-01-01 12:30 UTC" in (await ask("why", "BTCUSDT", "5m", within)).out
    assert any(row[:1] == ["weight"] for row in (await ask("limits")).rows)
    assert any(row[:1] == ["1"] for row in (await ask("feeds")).rows)


async def _change(typed: Typed) -> None:
    added = await typed("add", "ethusdt", "NOPE")
    assert (added.code, added.err) == (1, "klineagent: not added: NOPE\n")
    assert ["ETHUSDT", "2", "0", "0"] in added.rows
    assert (await typed("add", "NOPE")).err == "klineagent: symbol: NOPE does not exist on usdm\n"
    planned = await typed("add", "*USDT", "--exclude", "B*", "--intervals", "1h", "--dry-run")
    assert "would be added" in planned.out
    would = json.loads(
        (await typed("add", "SOLUSDT", "--intervals", "all", "--dry-run", "--json")).out
    )
    assert (would["dry_run"], would["added"], would["wanted"]) == (True, 15, 19)
    assert (await typed("add", "SOLUSDT", "--intervals", "1h")).code == 0
    nothing = await typed("add", "NOPE*", "--intervals", "1h", "--dry-run")
    assert (nothing.code, "NOPE*: matches no symbol at the moment" in nothing.out) == (0, True)
    half = await typed("add", "BTC[US", "--intervals", "1h")
    assert (half.code, len(half.err.splitlines())) == (1, 1)
    assert half.err.startswith("klineagent: add[0].match.name: 'BTC[US' has an unpaired")
    assert (await typed("add", "zzz*", "--intervals", "1h")).code == 0
    without = await typed("remove", "zzz*", "--intervals", "1h", "--dry-run")
    assert (
        without.out == "no stream would end: ZZZ* would be out of the set, and matched no symbol\n"
    )
    assert (await typed("remove", "zzz*")).code == 0
    removed = json.loads((await typed("remove", "ETHUSDT", "--json")).out)
    assert (removed["removed"], removed["wanted"]) == (2, 3)
    nowhere = await typed("coverage", "ETHBTC")
    assert nowhere.code == 1
    wrong = await typed("why", "BTCUSDT", "1s", "2020-01-01")
    assert (wrong.code, "interval: '1s' does not exist on usdm" in wrong.err) == (1, True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["add"], "name a SYMBOL or a PATTERN"),
        (["add", "--exclude", "B*", "--intervals", "1m"], "name a SYMBOL or a PATTERN"),
        (["add", "*USDT"], "--intervals is needed"),
        (["add", "BTCUSDT", "--dry-run"], "--intervals is needed"),
        (["add", "BTCUSDT", "--intervals", "7m"], "--intervals: there is no 7m; use some of 1s"),
        (
            ["add", "BTCUSDT", "--quote", "USDT", "--intervals", "1m"],
            "use another command for symbols",
        ),
        (["why", "BTCUSDT", "1m", "soon"], "TIME: 'soon' is no time; write 2026-02-01T20:00:00Z"),
        (["why", "BTCUSDT", "1w", "0"], "TIME: the 1w candle at 0 opens before 1970"),
        (["why", "BTCUSDT", "7m", "2026-02-01"], "INTERVAL: there is no 7m; use"),
        (["why", "1m", "1m", "2026-02-01"], "SYMBOL: 1m is an interval, not a symbol"),
        (["coverage", "1m"], "SYMBOL: 1m is an interval, not a symbol"),
        (["coverage", "*USDT"], "SYMBOL: *USDT is a pattern; add patterns with `klineagent add`"),
        (["status", "--agent", "here"], "--agent: expected http://HOST:PORT"),
        (["status", "--ca-file", "/does/not/exist"], "/does/not/exist"),
    ],
)
async def test_what_cannot_be_meant(words: list[str], message: str) -> None:
    """One line that names it, and exit code 2, before the agent is called."""
    ended = await typed_aside(*words)
    assert ended.code == 2
    assert message in ended.err.splitlines()[-1]


async def test_an_agent_that_is_not_there() -> None:
    """Exit code 3, for scripts that wait for one."""
    for words in (["status"], ["add", "BTCUSDT"], ["watch"]):
        ended = await trio.run_process(
            [sys.executable, "-m", "klineagent", *words, "--agent", "http://127.0.0.1:1"],
            capture_stderr=True,
            check=False,
        )
        assert ended.returncode == 3
        assert ended.stderr.startswith(b"klineagent: no agent answers at http://127.0.0.1:1: ")
        assert len(ended.stderr.splitlines()) == 1


async def test_a_token_is_no_option() -> None:
    """It would show in the list of processes."""
    for command in ("serve", "status", "watch"):
        assert "--token " not in (await typed_aside(command, "--help")).out


@pytest.fixture
async def watched() -> AsyncIterator[str]:
    """The URL of an agent to be watched."""
    async with (
        running_twin("--symbols", "3", "--speed", "60") as (_, twin),
        running_agent(twin, "memory:", "BTCUSDT") as (_, listening),
    ):
        yield f"http://{listening['command']}"


@asynccontextmanager
async def _watching(agent: str, *, terminal: int | None = None) -> AsyncIterator[trio.Process]:
    """`klineagent watch`, with a terminal or a pipe to write to."""
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "klineagent", "watch", "--every", "0.1", "--agent", agent],
        stdin=subprocess.DEVNULL if terminal is None else terminal,
        stdout=subprocess.PIPE if terminal is None else terminal,
        env={"PATH": "", "TERM": "xterm", "LINES": "20", "COLUMNS": "70"},
    )
    try:
        yield process
    finally:
        process.kill()
        with trio.move_on_after(DONE_WITHIN_S, shield=True):
            await process.wait()


async def test_watch_tells_a_pipe_in_lines(watched: str) -> None:
    """Until SIGINT, which is no error."""
    async with _watching(watched) as process:
        assert process.stdout is not None
        with trio.fail_after(DONE_WITHIN_S):
            async with process.stdout as out:
                printed = b""
                while printed.count(b"streams=7 symbols=1") < 3:
                    printed += await out.receive_some()
                process.send_signal(signal.SIGINT)
                assert await process.wait() == 0


@pytest.mark.parametrize("key", [b"q", b"\x03"])
async def test_watch_fills_a_terminal_and_leaves_it_as_it_was(watched: str, key: bytes) -> None:
    """On the alternate screen; q and Ctrl-C end it."""
    ours, its = pty.openpty()
    before = termios.tcgetattr(its)
    shown = b""

    async def read_until(words: bytes) -> None:
        nonlocal shown
        while words not in shown:
            await trio.lowlevel.wait_readable(ours)
            shown += os.read(ours, 65_536)

    async with _watching(watched, terminal=its) as process:
        with trio.fail_after(DONE_WITHIN_S):
            await read_until(b"7 of 1 symbol")
            assert termios.tcgetattr(its) != before
            if key == b"q":
                os.write(ours, key)
            else:
                process.send_signal(signal.SIGINT)  # what a terminal makes of it
            await read_until(b"\x1b[?1049l")
            assert await process.wait() == 0
    assert b"\x1b[?1049h" in shown
    assert termios.tcgetattr(its) == before
    os.close(its)
    os.close(ours)


async def test_what_answers_is_no_agent() -> None:
    """The error is one line, without a stack trace."""
    async with answering("200 OK", b"<html>") as url:
        ended = await typed_aside("list", "--agent", url)
    assert ended.code == 1
    assert ended.err.startswith(f"klineagent: the server at {url} is no agent")
