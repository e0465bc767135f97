"""An engine of our own on a snapshot."""

from __future__ import annotations

import io
import tempfile
import time
from pathlib import Path

import pytest

from klineagent.cli.sql.engine import SnapshotEngine, open_engine
from klineagent.core.errors import OutputError, QueryFailed
from klineagent.storage.opening import open_store
from klineagent.storage.snapshots import Frozen
from klineagent.storage.store import Batch, Table
from tests.klines import a_kline

pytest.importorskip("chdb")

NOW_MS = int(time.time()) * 1000


@pytest.fixture
async def frozen(tmp_path: Path) -> Frozen:
    """A snapshot from between two batches, the second of which corrects a candle of the first."""
    async with open_store(f"chdb://{tmp_path}/klines") as store:
        await store.insert(Batch("1", tuple(a_kline(minute) for minute in range(3))))
        await store.insert(Batch("2", (a_kline(2, after_ms=60_100),)))
        await store.insert(Batch("3", (a_kline(3, is_closed=False, after_ms=500),)))
        today = a_kline()._replace(open_time=NOW_MS, event_time=NOW_MS)  # older updates expire
        await store.insert(Batch("4", (today,), Table.UPDATES))
        assert store.snapshots is not None
        taken = await store.snapshots.take()
        await store.insert(Batch("5", (a_kline(4),)))
        return taken


def _rows(engine: SnapshotEngine, text: str, form: str = "TSV") -> str:
    out = io.BytesIO()
    engine.write(text, form, out)
    return out.getvalue().decode()


async def test_the_tables_are_those_of_the_moment(frozen: Frozen) -> None:
    """By the names users know, with or without the database's, forming candles in `klines` only."""
    with open_engine(frozen, "chdb://x") as engine:
        assert _rows(engine, "SELECT count() FROM klines_final") == "3\n"
        assert _rows(engine, "SELECT count() FROM market.klines FINAL") == "4\n"
        assert _rows(engine, "SELECT count() FROM kline_updates") == "1\n"
        assert _rows(engine, "SELECT max(event_time) - min(event_time) > 0 FROM klines") == "1\n"


async def test_queries_harm_nothing(frozen: Frozen) -> None:
    """What is dropped or inserted is so for this engine only; the files stay as they are."""
    before = _contents(frozen.folder)
    with open_engine(frozen, "chdb://x") as engine:
        _rows(engine, "INSERT INTO klines SELECT * REPLACE ('spot' AS venue) FROM klines")
        assert _rows(engine, "SELECT count() FROM klines_final") == "6\n"
        _rows(engine, "OPTIMIZE TABLE klines FINAL")
        _rows(engine, "ALTER TABLE klines DELETE WHERE true SETTINGS mutations_sync = 1")
        _rows(engine, "DROP TABLE klines SYNC")
    assert _contents(frozen.folder) == before
    with open_engine(frozen, "chdb://x") as engine:
        assert _rows(engine, "SELECT count() FROM klines_final") == "3\n"


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


async def test_nothing_is_left_behind(frozen: Frozen) -> None:
    """The engine's folder is gone, also after an error."""
    with open_engine(frozen, "chdb://x") as engine:
        folder = engine.folder
        assert folder.parent == Path(tempfile.gettempdir())
        with pytest.raises(QueryFailed):
            _rows(engine, "SELECT nothing FROM klines")
    assert not folder.exists()


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("SELECT 1 AS a, 'x\\ty' AS b", "1\tx\\ty\n"),
        ("SELECT 1 AS a FORMAT JSONEachRow", '{"a":1}\n'),
        ("SELECT 1 AS a FORMAT JSONEachRow SETTINGS max_threads = 1", '{"a":1}\n'),
        ("SELECT 1 -- one", "1\n"),
        ("SET max_threads = 1", ""),
        ("SELECT 1; SELECT 2", "1\n2\n"),
        ("EXISTS TABLE klines", "1\n"),
        ("DESCRIBE TABLE system.one", "dummy\tUInt8\t\t\t\t\t\n"),
        ("SELECT number FROM system.numbers LIMIT 3", "0\n1\n2\n"),
    ],
)
async def test_any_statement_is_answered(frozen: Frozen, text: str, rows: str) -> None:
    """With a format of its own, or without rows."""
    with open_engine(frozen, "chdb://x") as engine:
        assert _rows(engine, text) == rows


async def test_many_rows_are_one_document(frozen: Frozen) -> None:
    """One header, and every row."""
    with open_engine(frozen, "chdb://x") as engine:
        lines = _rows(engine, "SELECT number FROM numbers(300000)", "CSVWithNames").splitlines()
    assert lines == ['"number"', *map(str, range(300_000))]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SELECT nothing FROM klines", "Unknown expression identifier `nothing`"),
        ("SELECT 1 FROM there", "Unknown table expression identifier 'there'"),
        ("SELEC 1", "Syntax error"),
        ("SELECT throwIf(number = 3) FROM numbers(5)", "Value passed to 'throwIf'"),
    ],
)
async def test_a_wrong_query_is_told_in_a_line(frozen: Frozen, text: str, message: str) -> None:
    """Without the engine's code, version and stack trace; the next one is answered."""
    with open_engine(frozen, "chdb://x") as engine:
        with pytest.raises(QueryFailed, match=message) as failure:
            _rows(engine, text)
        assert "\n" not in str(failure.value)
        assert "DB::Exception" not in str(failure.value)
        assert _rows(engine, "SELECT 1") == "1\n"


class _Closed(io.BytesIO):
    def write(self, _: object, /) -> int:
        raise OutputError("nobody reads")


async def test_a_query_ends_with_its_reader(frozen: Frozen) -> None:
    """Endless rows are not made for nobody."""
    with open_engine(frozen, "chdb://x") as engine:
        with pytest.raises(OutputError):
            engine.write("SELECT number FROM system.numbers", "TSV", _Closed())
        assert _rows(engine, "SELECT 1") == "1\n"
