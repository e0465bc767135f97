"""Commands as they are typed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from klineagent.storage.opening import open_store
from klineagent.storage.store import Batch
from tests.klines import a_kline


def _klineagent(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "klineagent", *arguments]
    environment = {"PATH": "", "TERM": "dumb"}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env=environment
    )


async def test_show_tells_what_is_stored(real_store_url: str) -> None:
    """All series in a line each; or the newest candles of one."""
    async with open_store(real_store_url) as store:
        await store.insert(Batch("a", tuple(a_kline(minute) for minute in range(30))))
    summary = _klineagent("show", "--store", real_store_url)
    assert summary.returncode == 0, summary.stderr
    row = next(line for line in summary.stdout.splitlines() if "BTCUSDT" in line)
    assert row.split() == [
        *("usdm", "BTCUSDT", "1m", "30"),
        *("2026-02-01", "00:00", "2026-02-01", "00:29"),
    ]
    newest = _klineagent("show", "btcusdt", "1m", "--last", "2", "--store", real_store_url)
    shown = [line for line in newest.stdout.splitlines() if "2026-02-01" in line]
    assert [line.split()[1:] for line in shown] == [
        ["00:28", "1.5", "2.25", "1.25", "2", "10.001", "12"],
        ["00:29", "1.5", "2.25", "1.25", "2", "10.001", "12"],
    ]
    assert max(map(len, newest.stdout.splitlines())) <= 80
    assert "secret" not in summary.stdout + newest.stdout


@pytest.mark.parametrize("command", ["serve", "simulate", "demo", "show"])
def test_every_command_explains_itself(command: str) -> None:
    """`--help` works and does not need a database, an exchange or a terminal."""
    helped = _klineagent(command, "--help")
    assert helped.returncode == 0
    assert helped.stdout.startswith(f"Usage: python -m klineagent {command}")


def test_the_version_is_told() -> None:
    """As `klineagent, version X`."""
    assert _klineagent("--version").stdout.startswith("klineagent, version ")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["simulate", "--bind", "nowhere"], "--bind"),
        (["simulate", "--speed", "-1"], "--speed"),
        (["simulate", "--speed", "nan"], "--speed"),
        (["simulate", "--archive", "/does/not/exist"], "/does/not/exist"),
        (["demo", "--seconds", "soon"], "--seconds"),
        (["demo", "--intervals", "7m"], "--intervals"),
        (["show", "--store", "paper:"], "store"),
        (["show", "BTCUSDT", "7m"], "7m"),
    ],
)
def test_an_unusable_option_is_one_line_that_names_it(arguments: list[str], named: str) -> None:
    """Exit code 2, a reason on stderr, no stack trace."""
    ended = _klineagent(*arguments)
    assert ended.returncode == 2
    assert named in ended.stderr.strip().splitlines()[-1]
    assert "Traceback" not in ended.stderr


def test_an_archive_without_candles_is_told(tmp_path: Path) -> None:
    """The folder is named."""
    ended = _klineagent("simulate", "--archive", str(tmp_path))
    assert ended.returncode == 2
    assert str(tmp_path) in ended.stderr


def test_showing_what_was_never_recorded_makes_nothing(tmp_path: Path) -> None:
    """A folder that is not there is told, and not there afterwards either."""
    folder = tmp_path / "nothing"
    ended = _klineagent("show", "--store", f"chdb://{folder}")
    assert ended.returncode == 1
    assert str(folder) in ended.stderr
    assert not folder.exists()


def test_showing_a_series_that_is_not_stored_says_so(tmp_path: Path) -> None:
    """An empty answer is told in words."""
    ended = _klineagent("show", "NOPE", "--store", f"chdb://{tmp_path}")
    assert ended.returncode == 1
    assert "no closed candle of NOPE 1m on usdm is stored" in ended.stderr
