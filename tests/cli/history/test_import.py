"""`klineagent import` as it is typed, from a folder of real files."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

import pytest

from klineagent.storage.clickhouse.embedded_errors import LOCK
from tests.cli.typed import Ended, typed
from tests.places import ARCHIVE

pytest.importorskip("chdb")
pytestmark = pytest.mark.skipif(not ARCHIVE.exists(), reason="there are no files of the archive")

DAYS = ("--from", "2026-02-01", "--to", "2026-02-04")


def imported(folder: Path, *words: str, archive: Path | str = ARCHIVE) -> Ended:
    """Import from files alone."""
    place = ("--archive-url", str(archive), "--no-rest", "--store", f"chdb://{folder}/klines")
    return typed("import", *words, *place)


def test_it_says_what_it_has_done(tmp_path: Path) -> None:
    """What there is to do and how far it is on standard error, a summary on standard output."""
    answer = imported(tmp_path, "DOTUSDT", *DAYS)
    assert answer.code == 0
    assert answer.out.startswith("4320 candles of 3 files and 0 of the exchange stored in ")
    assert answer.err.startswith("1 series: 3 files to take (145 kB, up to 4320 candles)")
    again = imported(tmp_path, "DOTUSDT", *DAYS)
    assert again.err.startswith("1 series: 0 files to take (0 B, up to 0 candles), 3 taken before")


def test_candles_that_are_missing_are_named(tmp_path: Path) -> None:
    """Exit code 1; what was found is stored all the same."""
    answer = imported(tmp_path, "DOTUSDT", "--from", "2026-02-03", "--to", "2026-02-05")
    assert answer.code == 1
    assert answer.out.splitlines()[1] == (
        "missing  usdm:DOTUSDT 1m 2026-02-04 00:00 to 2026-02-05 00:00, 1440 candles:"
        " no file has them, and the exchange was not asked"
    )


def test_a_dry_run_stores_nothing(tmp_path: Path) -> None:
    """It says what there is to do."""
    assert "21 files to take" in imported(tmp_path, "*USDT", *DAYS, "--dry-run").err
    assert "21 files to take" in imported(tmp_path, "*USDT", *DAYS, "--dry-run").err


def test_programs_get_a_line_of_json_for_each_event(tmp_path: Path) -> None:
    """The last one says whether all is there."""
    lines = imported(tmp_path, "DOTUSDT", *DAYS, "--json").out.splitlines()
    events = [json.loads(line) for line in lines]
    kinds = [each["event"] for each in events]
    assert kinds[:2] == ["series_listed", "planned"]
    assert kinds.count("file_taken") == 3
    assert (events[-1]["event"], events[-1]["is_whole"]) == ("done", True)
    taken = next(each for each in events if each["event"] == "file_taken")
    assert (taken["record"]["state"], taken["record"]["rows"]) == ("imported", 1440)


def test_a_damaged_file_is_refused_with_its_reason(tmp_path: Path) -> None:
    """The others are taken."""
    series = "data/futures/um/daily/klines/DOTUSDT/1m"
    mirror = tmp_path / "mirror"
    (mirror / series).mkdir(parents=True)
    for path in (ARCHIVE / series).iterdir():
        (mirror / series / path.name).write_bytes(path.read_bytes())
    damaged = mirror / series / "DOTUSDT-1m-2026-02-02.zip"
    damaged.write_bytes(damaged.read_bytes()[:-300])
    answer = imported(tmp_path, "DOTUSDT", *DAYS, archive=mirror)
    assert answer.code == 1
    reason = f"refused  {series}/{damaged.name}: its SHA-256 is not that of its CHECKSUM"
    assert answer.out.splitlines()[1] == reason
    (mirror / series / f"{damaged.name}.CHECKSUM").unlink()
    answer = imported(tmp_path / "other", "DOTUSDT", *DAYS, archive=mirror)
    assert f"{damaged.name}: it is no zip file" in answer.out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["NOSUCH", *DAYS], 1, "the archive has no usdm:NOSUCH at 1m"),
        (["X*", *DAYS], 1, "no symbol of usdm in the archive is X*"),
        (["DOTUSDT", "--from", "2026-02-02", "--to", "2026-02-01"], 2, "is not before --to"),
        (["DOTUSDT", "--intervals", "2m"], 2, "--intervals: there is no 2m on usdm"),
        (["nowhere:DOTUSDT"], 2, "'nowhere' is no venue"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, words: list[str], code: int, message: str) -> None:
    """It says what is wrong."""
    answer = imported(tmp_path, *words)
    assert answer.code == code
    [line] = answer.err.splitlines()
    assert message in line


def test_a_folder_that_is_no_archive_is_a_mistake(tmp_path: Path) -> None:
    """The archive's folders begin with data."""
    answer = imported(tmp_path, "DOTUSDT", archive=tmp_path)
    assert (answer.code, "has no data/" in answer.err) == (2, True)


def test_an_archive_is_reached_by_http_or_is_a_folder(tmp_path: Path) -> None:
    """Another kind of URL is no folder that lacks something."""
    answer = imported(tmp_path, "DOTUSDT", *DAYS, archive="ftp://mirror")
    assert answer.code == 2
    assert "it is neither an HTTP URL nor a folder" in answer.err


def test_days_that_are_still_to_come_are_a_mistake(tmp_path: Path) -> None:
    """Nothing can be missing there."""
    answer = imported(tmp_path, "DOTUSDT", "--from", "2099-02-01")
    assert answer.code == 2
    assert "--from 2099-02-01 00:00 is in the future" in answer.err


def test_a_folder_in_use_is_left_to_its_agent(tmp_path: Path) -> None:
    """One line says why, and what to do."""
    folder = tmp_path / "klines"
    folder.mkdir()
    with (folder / LOCK).open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        answer = imported(tmp_path, "DOTUSDT", *DAYS)
    assert answer.code == 1
    [line] = answer.err.splitlines()
    assert "an agent records into it; let it import, with --agent http" in line


def test_what_was_imported_is_audited(tmp_path: Path) -> None:
    """Exit code 0 if nothing is found; a database that has nothing is no good news."""
    imported(tmp_path, "DOTUSDT", *DAYS)
    store = ("--store", f"chdb://{tmp_path}/klines")
    answer = typed("audit", *store)
    line = "4320 candles of 1 series compared with 3 days of files: no findings\n"
    assert (answer.code, answer.out) == (0, line)
    [done] = typed("audit", "DOT*", "--json", *store).out.splitlines()
    assert json.loads(done)["findings"] == 0
    assert typed("audit", "BTCUSDT", *store).code == 1
    assert typed("audit", "--store", f"chdb://{tmp_path}/nothing").code == 1
