"""Errors in exception groups."""

from __future__ import annotations

import pytest
import trio

from klineagent.cli.running import run
from klineagent.core.errors import ConfigError, StartError


async def _in_two_tasks(*errors: BaseException) -> None:
    async def fail(error: BaseException) -> None:
        raise error

    async with trio.open_nursery() as outer, trio.open_nursery() as inner:
        for nursery, error in zip((outer, inner), errors, strict=False):
            nursery.start_soon(fail, error)


def test_an_expected_error_comes_alone() -> None:
    """Callers catch it by its type, without handling groups."""
    with pytest.raises(StartError, match="taken"):
        run(lambda: _in_two_tasks(StartError("taken")))


def test_ctrl_c_is_what_is_told() -> None:
    """Errors that it causes are ignored."""
    with pytest.raises(KeyboardInterrupt):
        run(lambda: _in_two_tasks(KeyboardInterrupt(), ConfigError("it was cut short")))


def test_a_bug_is_not_hidden_behind_an_expected_error() -> None:
    """Then all of the group is shown."""
    with pytest.RaisesGroup(ConfigError, ZeroDivisionError, flatten_subgroups=True):
        run(lambda: _in_two_tasks(ConfigError("no"), ZeroDivisionError()))
