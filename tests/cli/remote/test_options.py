"""Where an agent is, its token, and what Tab offers."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import trio
from click.shell_completion import BashComplete
from click.testing import CliRunner

from klineagent.cli.group import commands
from klineagent.cli.remote import options
from klineagent.cli.remote.options import address_of
from klineagent.core.errors import ConfigError
from tests.cli.remote.scripted import answering, saying

TOKEN = "0123456789abcdef"
SYMBOLS = b'{"symbols":["BTCUSDT","BNBUSDT","ETHUSDT"],"count":3}'
COMMAND = Path(sys.executable).with_name("klineagent")


@pytest.mark.parametrize(
    "url", ["127.0.0.1:9999", "ftp://x", "http://", "http://x:port", "http://x:99999", ""]
)
def test_an_address_that_is_none(url: str) -> None:
    """The error names the option and what is expected."""
    with pytest.raises(ConfigError, match=r"--agent: expected http://HOST:PORT"):
        address_of(url, None, None)


def test_a_slash_at_the_end_does_not_matter() -> None:
    """People paste addresses out of browsers."""
    assert address_of("https://agent.example/", None, None).url == "https://agent.example"


def test_where_the_token_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is named now wins over the environment."""
    monkeypatch.delenv("KLINEAGENT_TOKEN", raising=False)
    assert address_of("http://x", None, None).token is None
    monkeypatch.setenv("KLINEAGENT_TOKEN", TOKEN)
    assert address_of("http://x", None, None).token == TOKEN
    file = tmp_path / "token"
    file.write_text(f"{TOKEN[::-1]}\n")
    assert address_of("http://x", file, None).token == TOKEN[::-1]


def test_a_token_that_cannot_be_one_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names its source."""
    monkeypatch.setenv("KLINEAGENT_TOKEN", "short secret")
    with pytest.raises(ConfigError, match="KLINEAGENT_TOKEN") as raised:
        address_of("http://x", None, None)
    assert "secret" not in str(raised.value)


async def _offered(*words: str, agent: str = "http://127.0.0.1:1") -> list[str]:
    """What Tab offers after these words, by the protocol between bash and click."""
    environ = {
        "COMP_WORDS": " ".join(("klineagent", *words)),
        "COMP_CWORD": str(len(words)),
        "KLINEAGENT_AGENT": agent,
    }
    completion = BashComplete(commands, {}, "klineagent", "_KLINEAGENT_COMPLETE")
    with CliRunner(env=environ).isolation():
        offered = await trio.to_thread.run_sync(completion.complete)
    return [line.partition(",")[2] for line in offered.split()]


async def test_tab_offers_commands_and_options() -> None:
    """Those of click."""
    assert await _offered("li") == ["limits", "list"]
    assert "--intervals" in await _offered("add", "--i")


async def test_tab_offers_intervals() -> None:
    """Also behind a comma, and none twice."""
    offered = await _offered("add", "--intervals", "1")
    assert offered == ["1s", "1m", "15m", "1h", "12h", "1d", "1w", "1M"]
    assert await _offered("add", "--intervals", "1s,1m,3") == [
        *("1s,1m,3m", "1s,1m,30m", "1s,1m,3d")
    ]
    assert await _offered("add", "--intervals", "5m,5") == []
    assert await _offered("why", "BTCUSDT", "5") == ["5m"]


async def test_tab_offers_symbols_that_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the case they are written in."""
    # A machine busy with other tests gets some more.
    monkeypatch.setattr(options, "_COMPLETE_WITHIN_S", 30)
    async with answering("200 OK", SYMBOLS) as agent:
        assert await _offered("remove", "b", agent=agent) == ["BTCUSDT", "BNBUSDT"]
        assert await _offered("coverage", "--agent", agent, "E") == ["ETHUSDT"]


async def test_tab_does_not_complain() -> None:
    """Where no agent is, or one that says nothing, nothing is offered."""
    assert await _offered("remove", "b") == []
    assert await _offered("remove", "--agent", "nonsense", "b") == []
    async with saying(b"") as agent:
        assert await _offered("remove", "b", agent=agent) == []


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_the_line_in_the_docs_works_in_bash() -> None:
    """What it evaluates gives bash a function for the command."""
    script = f"""
        PATH="{COMMAND.parent}:$PATH"
        eval "$(_KLINEAGENT_COMPLETE=bash_source klineagent)"
        COMP_WORDS=(klineagent config s) COMP_CWORD=2
        _klineagent_completion klineagent
        echo "${{COMPREPLY[@]}}"
        complete -p klineagent
    """
    ended = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    offered, complete = ended.stdout.splitlines()
    assert offered == "show"
    assert complete.endswith("-F _klineagent_completion klineagent")
