"""Commands as they are typed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from klineagent.cli.group import LaterCommand, commands
from klineagent.storage.opening import open_store
from klineagent.storage.store import Batch
from tests.cli.typed import typed, typed_aside
from tests.klines import a_kline
from tests.servers import InstalledServer


def _klineagent(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "klineagent", *arguments]
    environment = {"PATH": "", "TERM": "dumb", **environ}
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


async def test_show_tells_of_a_range_of_time(real_store_url: str) -> None:
    """From the first time on, up to the second; all of it, or the newest of it."""
    async with open_store(real_store_url) as store:
        await store.insert(Batch("a", tuple(a_kline(minute) for minute in range(30))))
    bounds = ("--from", "2026-02-01T00:10", "--to", "2026-02-01T00:25")
    store_option = ("--store", real_store_url)
    shown = await typed_aside("show", "BTCUSDT", *bounds, *store_option)
    minutes = [line.split()[1] for line in shown.out.splitlines() if "2026-" in line]
    assert minutes == [f"00:{minute}" for minute in range(10, 25)]
    shown = await typed_aside("show", "BTCUSDT", *bounds, "--last", "2", *store_option)
    minutes = [line.split()[1] for line in shown.out.splitlines() if "2026-" in line]
    assert minutes == ["00:23", "00:24"]
    shown = await typed_aside("show", "BTCUSDT", "--from", "2027-01-01", *store_option)
    assert "no closed candle in that range of time" in shown.err
    shown = await typed_aside("show", "BTCUSDT", "--from", "2027-01-01", "--to", "2026-01-01")
    assert (shown.code, "is not before --to" in shown.err) == (2, True)
    shown = await typed_aside("show", "BTCUSDT", "--from", "soon", *store_option)
    assert (shown.code, "--from" in shown.err) == (2, True)


async def test_show_tells_where_candles_are_from(real_store_url: str) -> None:
    """If asked to."""
    async with open_store(real_store_url) as store:
        await store.insert(Batch("a", (a_kline(0), a_kline(1)._replace(source="rest"))))
    shown = await typed_aside("show", "BTCUSDT", "--source", "--store", real_store_url)
    assert [line.split()[-1] for line in shown.out.splitlines() if "2026-" in line] == [
        "stream",
        "rest",
    ]


async def test_show_of_a_venue_tells_of_no_other(real_store_url: str) -> None:
    """From any source; without a venue, series of all venues are listed."""
    async with open_store(real_store_url) as store:
        spot = a_kline()._replace(venue="spot", symbol="SOLUSDT")
        await store.insert(Batch("a", (a_kline(), spot)))

    async def shown(*options: str, **environ: str) -> list[str]:
        ended = await typed_aside("show", "--store", real_store_url, *options, **environ)
        assert ended.code == 0, ended.err
        return [line.split()[0] for line in ended.out.splitlines() if "USDT" in line]

    assert await shown() == ["spot", "usdm"]
    assert await shown("--venue", "usdm") == ["usdm"]
    assert await shown(KLINEAGENT_VENUE="spot") == ["spot"]
    nothing = await typed_aside("show", "--store", real_store_url, "--venue", "coinm")
    assert nothing.code == 1
    assert nothing.err == "klineagent: no closed candle on coinm is stored\n"


async def test_show_tells_of_other_venues_that_have_the_series(real_store_url: str) -> None:
    """The default venue is one of three, and easily forgotten."""
    async with open_store(real_store_url) as store:
        others = tuple(a_kline()._replace(venue=venue) for venue in ("spot", "coinm"))
        await store.insert(Batch("a", (*others, a_kline()._replace(symbol="ETHUSDT"))))
    for words, what in ([], "closed candle"), (["--updates"], "update"):
        ended = await typed_aside("show", "BTCUSDT", "1m", *words, "--store", real_store_url)
        assert ended.code == 1
        assert ended.err == (
            f"klineagent: no {what} of BTCUSDT 1m on usdm is stored; it is stored on coinm"
            " and spot: show coinm:BTCUSDT\n"
        )
    ended = await typed_aside("show", "BTCUSDT", "5m", "--store", real_store_url)
    assert ended.err == "klineagent: no closed candle of BTCUSDT 5m on usdm is stored\n"


@pytest.mark.parametrize("command", ["serve", "simulate", "demo", "show"])
def test_every_command_explains_itself(command: str) -> None:
    """`--help` works and does not need a database, an exchange or a terminal."""
    helped = _klineagent(command, "--help")
    assert helped.returncode == 0
    assert helped.stdout.startswith(f"Usage: python -m klineagent {command}")


def test_help_may_be_asked_for_in_short() -> None:
    """`-h` is `--help`, of commands within commands as well."""
    for command in ([], ["serve"], ["spool", "list"], ["config", "show"]):
        assert CliRunner().invoke(commands, [*command, "-h"]).stdout.startswith("Usage: ")


def test_the_version_is_told() -> None:
    """As `klineagent, version X`."""
    assert _klineagent("--version").stdout.startswith("klineagent, version ")


@pytest.mark.parametrize("name", commands.commands)
def test_the_listing_tells_what_the_command_tells_of_itself(name: str) -> None:
    """It is written twice, so that the listing need not import the command."""
    listed = commands.commands[name]
    assert isinstance(listed, LaterCommand)
    command = listed.load()
    assert command.name == name
    assert command.get_short_help_str(limit=1000) == listed.get_short_help_str(limit=1000)


_HEAVY = {
    *("trio_websocket", "wsproto", "hypercorn", "quart", "quart_trio", "asynch", "chdb"),
    *("trio.testing", "pytest", "klineagent.twin", "klineagent.proof", "klineagent.bench"),
}
_IMPORTED = """
import sys
from klineagent.__main__ import main
sys.argv[0] = "klineagent"
try:
    main()
finally:
    print("imported", *sys.modules)
"""


def _imported(*arguments: str, **environ: str) -> set[str]:
    command = [sys.executable, "-c", _IMPORTED, *arguments]
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env=environ
    )
    name, *modules = ended.stdout.splitlines()[-1].split()
    assert name == "imported", ended.stderr
    return set(modules)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--version"],
        ["--help"],
        ["serve", "--help"],
        ["config", "show"],
        ["spool", "list", "--spool", "/does/not/exist"],
        ["status", "--agent", "http://127.0.0.1:1"],
    ],
)
def test_a_command_imports_what_it_needs(arguments: list[str]) -> None:
    """Neither servers nor exchange twin nor databases, where none of them runs."""
    assert _imported(*arguments) & _HEAVY == set()


@pytest.mark.parametrize("typed", ["klineagent ", "klineagent serve --st", "klineagent add --int"])
def test_completion_imports_what_it_needs(typed: str) -> None:
    """The user waits for it after pressing Tab."""
    words = {"COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    program = {"_KLINEAGENT_COMPLETE": "bash_complete", **words}
    imported = _imported(**program)
    assert "click.shell_completion" in imported
    assert imported & _HEAVY == set()


def test_without_a_twin_in_memory_there_is_no_pytest() -> None:
    """What is installed for users does not have it."""
    assert "pytest" not in _imported("simulate", "--help")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["simulate", "--bind", "nowhere"], "--bind"),
        (["simulate", "--speed", "-1"], "--speed"),
        (["simulate", "--speed", "nan"], "--speed"),
        (["prove", "--days", "nan"], "--days"),
        (["serve", ""], "SYMBOL: the name is empty"),
        (["simulate", "--archive", "/does/not/exist"], "/does/not/exist"),
        (["demo", "--seconds", "soon"], "--seconds"),
        (["demo", "--intervals", "7m"], "--intervals"),
        (["show", "--store", "paper:"], "store"),
        (["show", "BTCUSDT", "7m"], "INTERVAL: there is no 7m on usdm"),
        (["show", "1m"], "SYMBOL: 1m is an interval, not a symbol"),
        (["serve", "1M"], "SYMBOL: 1M is an interval, not a symbol"),
        (["serve", "*USDT"], "SYMBOL: *USDT is a pattern; add patterns with `klineagent add`"),
    ],
)
def test_an_unusable_option_is_one_line_that_names_it(arguments: list[str], named: str) -> None:
    """Exit code 2, a reason on stderr, no stack trace."""
    ended = typed(*arguments)
    assert ended.code == 2
    assert named in ended.err.strip().splitlines()[-1]
    assert "Traceback" not in ended.err


def test_a_misspelt_variable_is_told_and_ends_nothing() -> None:
    """In one line, whichever command it is."""
    ended = CliRunner(env={"KLINEAGENT_STROE": "memory:"}).invoke(commands, ["config", "show"])
    assert ended.exit_code == 0
    assert ended.stderr == (
        "klineagent: KLINEAGENT_STROE is not a setting; did you mean KLINEAGENT_STORE?\n"
    )


def test_an_archive_without_candles_is_told(tmp_path: Path) -> None:
    """The folder is named."""
    ended = typed("simulate", "--archive", str(tmp_path))
    assert ended.code == 2
    assert str(tmp_path) in ended.err


def test_showing_what_was_never_recorded_makes_nothing(tmp_path: Path) -> None:
    """A missing or foreign folder is reported, and left as it is."""
    for folder in (tmp_path / "nothing", tmp_path):
        ended = typed("show", "--store", f"chdb://{folder}")
        assert ended.code == 1
        assert f"nothing has been recorded in {folder}: " in ended.err
        assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_looked_into_is_told(tmp_path: Path) -> None:
    """In one line, with the system's reason."""
    folder = tmp_path / ("x" * 300)
    ended = typed("show", "--store", f"chdb://{folder}")
    assert ended.code == 1
    assert ended.err == f"klineagent: cannot read {folder}: File name too long\n"


def test_showing_a_misspelt_database_makes_nothing(installed_server: InstalledServer) -> None:
    """The error is one line, the second time as well."""
    for _ in range(2):
        ended = typed("show", "--store", installed_server.url_of("mraket"))
        assert ended.code == 1
        assert ended.err == (
            "klineagent: nothing has been recorded in database mraket: it has no tables\n"
        )


async def test_showing_a_series_that_is_not_stored_says_so(real_store_url: str) -> None:
    """An empty answer is reported in words."""
    async with open_store(real_store_url) as store:
        await store.prepare()
    ended = await typed_aside("show", "NOPE", "--store", real_store_url)
    assert ended.code == 1
    assert "no closed candle of NOPE 1m on usdm is stored" in ended.err
