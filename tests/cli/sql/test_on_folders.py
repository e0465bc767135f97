"""A folder that no agent has is read in a snapshot of our own."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.feather
import pyarrow.parquet
import pytest
import trio

from klineagent.cli.sql import snapshot as module
from klineagent.storage.opening import open_store
from klineagent.storage.store import Batch
from tests.cli.typed import typed
from tests.klines import OPEN_MS, a_kline

pytest.importorskip("chdb")

NOBODY = ("--agent", "http://127.0.0.1:1")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One with closed candles of minutes 0, 1 and 3, and a forming one."""

    async def fill() -> None:
        async with open_store(f"chdb://{tmp_path}/klines") as store:
            klines = (a_kline(), a_kline(1), a_kline(3), a_kline(4, is_closed=False, after_ms=5))
            await store.insert(Batch("1", klines))

    trio.run(fill)
    return tmp_path / "klines"


def _left_behind(folder: Path) -> list[Path]:
    return [*folder.glob("shadow/klineagent_*"), *folder.parent.glob("*.part")]


def test_a_free_folder_answers(folder: Path) -> None:
    """It has a header without a terminal; nothing is left of the snapshot."""
    query = "SELECT count() AS n FROM klines_final"
    answer = typed("sql", query, "--store", f"chdb://{folder}", *NOBODY)
    assert (answer.code, answer.out, answer.err) == (0, "n\n3\n", "")
    assert _left_behind(folder) == []


def test_a_query_comes_from_standard_input(folder: Path) -> None:
    """With `-`, and without any, if it is no terminal."""
    for words in (["sql"], ["sql", "-"]):
        answer = typed(*words, "--store", f"chdb://{folder}", answer="SELECT 1 AS x;\n")
        assert answer.out == "x\n1\n"
    assert typed("sql", "--store", f"chdb://{folder}", answer=" ;\n").code == 2


def test_what_is_recorded_cannot_be_dropped(folder: Path) -> None:
    """Each query has a snapshot of its own."""
    store = ("--store", f"chdb://{folder}")
    assert typed("sql", "DROP TABLE klines", *store).code == 0
    assert typed("sql", "SELECT count() FROM klines", *store, "--format", "TSV").out == "4\n"
    assert "3" in typed("show", *store).out.split()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["SELECT nothing FROM klines"], 1, "Unknown expression identifier `nothing`"),
        (["SELECT 1", "--format", "Blub"], 1, "Unknown format Blub"),
        (["SELECT 1", "--format", "a b"], 2, "no such format"),
        ([""], 2, "QUERY is empty"),
    ],
)
def test_what_is_wrong_is_told_in_a_line(
    folder: Path, words: list[str], code: int, message: str
) -> None:
    """Nothing is left behind."""
    failed = typed("sql", *words, "--store", f"chdb://{folder}")
    assert failed.code == code
    assert message in failed.err
    assert failed.err.count("\n") == 1
    assert _left_behind(folder) == []


def test_where_nothing_was_recorded_nothing_is_made(tmp_path: Path) -> None:
    """Neither in a folder that is not there, nor in one of somebody else; memory is nobody's."""
    (tmp_path / "mine").mkdir()
    for url, code in (
        (f"chdb://{tmp_path}/none", 1),
        (f"chdb://{tmp_path}/mine", 1),
        ("memory:", 2),
    ):
        assert typed("sql", "SELECT 1", "--store", url, *NOBODY).code == code
    assert [each.name for each in tmp_path.iterdir()] == ["mine"]
    assert list((tmp_path / "mine").iterdir()) == []


def test_the_default_folder_may_be_an_agents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is none, an agent is asked for its own; without one, both are told."""
    monkeypatch.chdir(tmp_path)
    failed = typed("sql", "SELECT 1", *NOBODY)
    assert failed.code == 1
    assert "klineagent-data: no such folder; and no agent answers at" in failed.err


@contextmanager
def _in_use(folder: Path) -> Iterator[None]:
    """As the engine of another process has it."""
    with (folder / "status").open("ab") as lock:
        # A lock of this open file, which the other opening below does not share.
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.mark.parametrize("words", [["sql", "SELECT 1"], ["show"]])
def test_a_folder_in_use_without_an_agent_is_told(
    folder: Path, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be free in a moment, so it waits a little."""
    monkeypatch.setattr(module, "PATIENCE_S", 0.2)
    with _in_use(folder):
        failed = typed(*words, "--store", f"chdb://{folder}", *NOBODY)
    assert failed.code == 3
    assert f"chdb://{folder} is in use, and no agent answers at http://127.0.0.1:1" in failed.err
    assert failed.err.count("\n") == 1


def test_a_candle_that_is_missing_is_told(folder: Path, tmp_path: Path) -> None:
    """The file has what there is; the range narrows it."""
    out = tmp_path / "out.parquet"
    words = ("export", "BTCUSDT", "--store", f"chdb://{folder}", "--out", str(out))
    exported = typed(*words)
    assert exported.code == 0
    assert exported.out.startswith(f"3 candles of 1 series in {out}")
    assert "usdm BTCUSDT 1m: 1 candles within its range are not stored" in exported.err
    table = pyarrow.parquet.read_table(out)
    assert table["open_time"].cast("int64").to_pylist() == [
        OPEN_MS,
        OPEN_MS + 60_000,
        OPEN_MS + 180_000,
    ]
    assert table["close"].to_pylist() == [2.0] * 3
    whole = typed(*words, "--to", str(OPEN_MS + 61_000))
    assert whole.err == ""
    assert pyarrow.parquet.read_table(out).num_rows == 2
    assert _left_behind(folder) == []


def test_the_format_is_that_of_the_file(folder: Path, tmp_path: Path) -> None:
    """Or the one that is given."""
    words = ("export", "BTCUSDT", "--store", f"chdb://{folder}")
    arrow, other = tmp_path / "out.arrow", tmp_path / "out.txt"
    assert typed(*words, "--out", str(arrow)).code == 0
    assert pyarrow.feather.read_table(arrow).num_rows == 3
    assert typed(*words, "--out", str(other)).code == 2
    assert typed(*words, "--out", str(other), "--format", "csv").code == 0
    assert other.read_text().startswith('"venue","symbol"')


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["XYZ", "--out", "{}/x.csv"], 1),
        (["BTCUSDT", "--intervals", "1m,1h", "--out", "{}/x.csv"], 1),
        (["BTCUSDT", "--intervals", "7m", "--out", "{}/x.csv"], 2),
        (["BTCUSDT", "--from", "2026-03-01", "--to", "2026-02-01", "--out", "{}/x.csv"], 2),
        (["BTCUSDT", "--out", "{}/none/x.csv"], 2),
        (["BTCUSDT", "--out", "/dev/null", "--format", "csv"], 2),
        (["nyse:IBM", "--out", "{}/x.csv"], 2),
    ],
)
def test_no_file_is_made_of_what_is_not_there(
    folder: Path, tmp_path: Path, words: list[str], code: int
) -> None:
    """One line says why."""
    words = [word.format(tmp_path) for word in words]
    failed = typed("export", *words, "--store", f"chdb://{folder}")
    assert failed.code == code
    assert failed.err.count("\n") == 1
    assert [each.name for each in tmp_path.iterdir()] == ["klines"]


def test_a_file_that_cannot_be_written_is_none(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a full disk: the file that was there stays, and nothing beside it."""
    out = tmp_path / "out.csv"
    out.write_text("before")

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    failed = typed("export", "BTCUSDT", "--store", f"chdb://{folder}", "--out", str(out))
    assert (failed.code, failed.err) == (
        1,
        f"klineagent: cannot write {out}: No space left on device\n",
    )
    assert out.read_text() == "before"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["klines", "out.csv"]
