"""Commands that are imported when they are called."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from klineagent.cli.group import LaterCommand, LazyGroup

MODULE = "a_command_of_a_test"


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LazyGroup:
    """A group with one command, in a module that nothing has imported."""
    tmp_path.joinpath(f"{MODULE}.py").write_text(
        "import click\n"
        "@click.command()\n"
        "@click.option('--loud', is_flag=True)\n"
        "def greet(loud):\n"
        "    'Greet. In some detail.'\n"
        "    click.echo('HELLO' if loud else 'hello')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    return LazyGroup("main", commands=[LaterCommand("hi", f"{MODULE}:greet", "Greet.")])


def test_the_listing_imports_no_command(group: LazyGroup) -> None:
    """The table knows what help needs."""
    assert "hi  Greet." in CliRunner().invoke(group, ["--help"]).stdout
    assert MODULE not in sys.modules


def test_a_call_imports_its_command(group: LazyGroup) -> None:
    """With its own options and its own help."""
    assert CliRunner().invoke(group, ["hi", "--loud"]).stdout == "HELLO\n"
    assert "In some detail." in CliRunner().invoke(group, ["hi", "--help"]).stdout


def test_completion_imports_what_is_completed(group: LazyGroup) -> None:
    """The command's name without it, its options with it."""
    complete = ShellComplete(group, {}, "main", "_MAIN_COMPLETE")
    assert [each.value for each in complete.get_completions([], "h")] == ["hi"]
    assert MODULE not in sys.modules
    assert [each.value for each in complete.get_completions(["hi"], "--l")] == ["--loud"]


def test_commands_that_are_there_already_may_be_among_them(group: LazyGroup) -> None:
    """They are called as ever."""

    @group.command()
    def now() -> None:
        click.echo("at once")

    assert CliRunner().invoke(group, ["now"]).stdout == "at once\n"
