"""Standard output that fails."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import trio

from tests.processes import running_agent, running_twin

TIMEOUT_S = 60
_KLINEAGENT = (sys.executable, "-m", "klineagent")
_NO_SPACE = b"klineagent: cannot write the output: No space left on device\n"
# Prints without a flush, as a command of ours might.
_LATE = """
import sys
from klineagent.cli import group as cli

@cli.commands.command()
def late():
    sys.stdout.write("late")

sys.argv[1:] = ["late"]
sys.exit(cli.run_command())
"""
# Prints a table inside Trio, as `show` does.
_IN_TRIO = """
import sys
from klineagent.cli import group as cli
from klineagent.cli.running import run
from klineagent.cli.tables import plain_table, wide_console

@cli.commands.command()
def table():
    async def show():
        wide_console().print(plain_table("title", ["column"], []))

    run(show)

sys.argv[1:] = ["table"]
sys.exit(cli.run_command())
"""


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "command",
    [
        (*_KLINEAGENT, "--version"),
        (*_KLINEAGENT, "show", "--help"),
        (*_KLINEAGENT, "config", "show"),
        (sys.executable, "-c", _IN_TRIO),
        (sys.executable, "-c", _LATE),
    ],
)
def test_a_full_disk_is_told_in_one_line(command: tuple[str, ...], unbuffered: str) -> None:
    """By click, by rich inside Trio, or by the flush at the end."""
    environ = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with open("/dev/full", "wb") as full:  # noqa: PTH123 - a device
        ended = subprocess.run(
            command,
            stdout=full,
            stderr=subprocess.PIPE,
            env=environ,
            timeout=TIMEOUT_S,
            check=False,
        )
    assert (ended.returncode, ended.stderr) == (1, _NO_SPACE)


@pytest.mark.parametrize(
    "command",
    [
        (*_KLINEAGENT, "--help"),
        (*_KLINEAGENT, "config", "show"),
        (sys.executable, "-c", _IN_TRIO),
    ],
)
def test_a_closed_pipe_ends_a_command_without_a_word(command: tuple[str, ...]) -> None:
    """As `head` closes it."""
    ours, its = os.pipe()
    os.close(ours)
    with open(its, "wb") as pipe:  # noqa: PTH123 - a descriptor
        ended = subprocess.run(
            command,
            stdout=pipe,
            stderr=subprocess.PIPE,
            timeout=TIMEOUT_S,
            check=False,
        )
    assert (ended.returncode, ended.stderr) == (1, b"")


async def test_a_closed_pipe_ends_what_would_go_on_for_ever() -> None:
    """`watch` ends all its tasks without a stack trace."""
    async with (
        running_twin("--symbols", "3", "--speed", "60") as (_, twin),
        running_agent(twin, "memory:", "BTCUSDT") as (_, listening),
    ):
        agent = f"http://{listening['command']}"
        process = await trio.lowlevel.open_process(
            [*_KLINEAGENT, "watch", "--every", "0.1", "--agent", agent],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        with trio.fail_after(TIMEOUT_S):
            await process.stdout.receive_some()
            await process.stdout.aclose()
            said = [part async for part in process.stderr]
            assert (await process.wait(), said) == (1, [])


def test_without_an_output_a_command_does_its_work() -> None:
    """A service manager may give it none."""
    ended = subprocess.run(
        ["/bin/sh", "-c", '"$@" >&-', "sh", *_KLINEAGENT, "config", "show"],
        stderr=subprocess.PIPE,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, b"")
