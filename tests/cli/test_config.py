"""`klineagent config show`: every setting, its value, and where that comes from."""

from __future__ import annotations

import json
from pathlib import Path

import attrs
import pytest
from click.testing import CliRunner

from klineagent.cli.config import show
from klineagent.cli.group import commands
from klineagent.cli.serve import serve
from klineagent.config.model import Config
from klineagent.core.errors import ConfigError

TOKEN = "0123456789abcdef-the-token"


def _shown(*arguments: str, **environ: str) -> str:
    ended = CliRunner(env=environ).invoke(
        commands, ["config", "show", *arguments], catch_exceptions=False
    )
    assert ended.exit_code == 0, ended.output
    return ended.stdout


def _settings(*arguments: str, **environ: str) -> dict[str, tuple[str | None, str]]:
    settings = json.loads(_shown("--json", *arguments, **environ))
    return {each["name"]: (each["value"], each["source"]) for each in settings}


def test_everything_is_there_by_default() -> None:
    """In the order of the class; derived values are shown for settings left unset."""
    settings = _settings()
    assert list(settings) == [each.name for each in attrs.fields(Config)]
    assert {source for _, source in settings.values()} == {"default"}
    assert settings["lookback_s"][0] == "1d"
    assert settings["ws_url"][0] == "wss://fstream.binance.com/market"
    assert settings["spool"][0] == str(Path("klineagent-data-spool-usdm").absolute())
    assert settings["symbols"][0] is None


def test_each_source_is_named(tmp_path: Path) -> None:
    """The last source wins; names are those the user wrote."""
    file = tmp_path / "agent.toml"
    file.write_text('[klineagent]\nhistory = 7\nflush_rows = 8\nlog_level = "debug"\n')
    settings = _settings(
        *("btcusdt", "ethusdt", "--config", str(file), "--grace", "9", "--updates"),
        KLINEAGENT_FLUSH_ROWS="10",
        DATA_AGENT_MAX_SYMBOL="11",
    )
    assert {name: each for name, each in settings.items() if each[1] != "default"} == {
        "symbols": ("BTCUSDT,ETHUSDT", "SYMBOL"),
        "history": ("7", f"{file}: history"),
        "log_level": ("debug", f"{file}: log_level"),
        "flush_rows": ("10", "KLINEAGENT_FLUSH_ROWS"),
        "max_symbols": ("11", "DATA_AGENT_MAX_SYMBOL"),
        "grace_s": ("9", "--grace"),
        "updates": ("true", "--updates"),
    }


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_secrets_are_not_shown(form: list[str]) -> None:
    """Tokens at all; of URLs everything but the password."""
    shown = _shown(
        *form,
        KLINEAGENT_TOKEN=TOKEN,
        KLINEAGENT_STORE="clickhouse://me:hidden@db.example/market",
        KLINEAGENT_REST_URL="http://me:hidden@proxy.example",
    )
    assert TOKEN not in shown
    assert "hidden" not in shown
    assert "KLINEAGENT_TOKEN" in shown
    assert "clickhouse://me:***@db.example/market" in shown


def test_a_table_for_people() -> None:
    """A line each; nothing is taken for markup."""
    rows = [line.split() for line in _shown("--command-bind", "[::1]:9999").splitlines()]
    assert ["command_bind", "[::1]:9999", "--command-bind"] in rows
    assert ["ca_file", "none", "default"] in rows


def test_it_takes_what_serve_takes() -> None:
    """Whatever that will be."""
    names = [each.name for each in show.params]
    assert names == [*(each.name for each in serve.params), "as_json"]


def test_what_cannot_be_used_is_told() -> None:
    """As `serve` would report it."""
    runner = CliRunner()
    ended = runner.invoke(commands, ["config", "show", "--history", "many"])
    assert isinstance(ended.exception, ConfigError)
    assert str(ended.exception).startswith("--history: ")
