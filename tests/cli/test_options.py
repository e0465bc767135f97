"""Options as they are typed, and as errors and help show them."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from klineagent.cli.group import commands
from klineagent.config.loading import load_config
from klineagent.config.model import Config
from klineagent.config.sources import SHORT_OPTIONS, option_names, spelling
from klineagent.core.errors import ConfigError


@pytest.mark.parametrize("field", SHORT_OPTIONS)
@pytest.mark.parametrize("source", ["option", "other option", "environment", "file"])
def test_a_bad_value_is_told_of_as_it_was_typed(source: str, field: str, tmp_path: Path) -> None:
    """By the name it has there, which is not the same everywhere."""
    short, file, arguments, environ = SHORT_OPTIONS[field], tmp_path / "agent.conf", [], {}
    file.write_text("[klineagent]\n")
    match source:
        case "option":
            name = f"--{short}"
            arguments = [name, "soon"]
        case "other option":
            name = f"--{short}-s"
            arguments = [name, "soon"]
        case "environment":
            name = f"KLINEAGENT_{field.upper()}"
            environ = {name: "soon"}
        case _:
            name = f"{file}: {field}"
            file.write_text(f'[klineagent]\n{field} = "soon"\n')
    ended = CliRunner().invoke(commands, ["serve", "--config", str(file), *arguments], env=environ)
    assert isinstance(ended.exception, ConfigError)
    text = str(ended.exception)
    assert text.startswith(f"{name}: expected ")
    assert text.endswith("got 'soon'")


@pytest.mark.parametrize("field", SHORT_OPTIONS)
def test_every_name_of_an_option_sets_its_field(field: str) -> None:
    """The one shown by help, and the field's name."""
    for name in option_names(field):
        assert load_config({name: "7"}, {}, None) == Config(**{field: 7})


def test_help_tells_an_option_by_one_name() -> None:
    """Others work, and are for those who know the file's keys."""
    text = CliRunner().invoke(commands, ["serve", "--help"]).stdout
    for field in SHORT_OPTIONS:
        first, *others = map(spelling, option_names(field))
        assert f"{first} " in text
        assert not any(other in text for other in others)
