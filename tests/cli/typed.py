"""Commands as they are typed, without the second that a process takes to start."""

from __future__ import annotations

import sys
from functools import partial

import pytest
import trio
from attrs import frozen
from click.testing import CliRunner

from klineagent.cli.group import run_command


@frozen
class Ended:
    """What a command has printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[list[str]]:
        return [line.split() for line in self.out.splitlines()]


def typed(*words: str, answer: str = "", **environ: str) -> Ended:
    """Run `klineagent WORDS` in this process; `answer` is typed when it asks."""
    runner = CliRunner(env={"TERM": "dumb", **environ})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["klineagent", *words])
        with runner.isolation(answer) as (out, err, _):
            code = run_command()
            sys.stdout.flush()
            return Ended(code, out.getvalue().decode(), err.getvalue().decode())


async def typed_aside(*words: str, answer: str = "", **environ: str) -> Ended:
    """The same while this task's loop goes on: the command runs one of its own in a thread."""
    return await trio.to_thread.run_sync(partial(typed, *words, answer=answer, **environ))
