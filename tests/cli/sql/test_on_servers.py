"""On a server, queries run there, and an export copies its rows first."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
import trio

from klineagent.storage.opening import open_store
from klineagent.storage.store import Batch
from tests.cli.typed import typed
from tests.klines import OPEN_MS, a_kline

pytest.importorskip("chdb")

BATCH = Batch("1", (a_kline(), a_kline(1), a_kline(2, is_closed=False, after_ms=500)))
SERVERS = pytest.mark.parametrize(
    "real_store_url", ["installed_server", "modern_server"], indirect=True
)


@pytest.fixture
def url(real_store_url: str) -> str:
    """That of a database with two closed candles and a forming one."""

    async def fill() -> None:
        async with open_store(real_store_url) as store:
            await store.insert(BATCH)

    trio.run(fill)
    return real_store_url


@SERVERS
def test_a_server_answers(url: str) -> None:
    """In each of our formats; its tables need no database's name."""

    def ask(query: str, *options: str) -> str:
        answer = typed("sql", query, "--store", url, *options)
        assert (answer.code, answer.err) == (0, "")
        return answer.out

    query = "SELECT symbol, trades, close FROM klines_final ORDER BY open_time"
    assert ask(query) == "symbol\ttrades\tclose\n" + "BTCUSDT\t12\t2.0\n" * 2
    assert ask(query, "--format", "csv").splitlines()[1] == "BTCUSDT,12,2.0"
    document = json.loads(ask(query, "--format", "json"))
    assert document["data"] == [{"symbol": "BTCUSDT", "trades": 12, "close": 2.0}] * 2
    assert [each["name"] for each in document["meta"]] == ["symbol", "trades", "close"]
    assert json.loads(ask(query, "--format", "jsonl").splitlines()[0]) == document["data"][0]
    table = ask(query, "--format", "table")
    assert "BTCUSDT" in table
    assert "trades" in table
    assert ask(r"SELECT 'a\tb' AS x, NULL AS y") == "x\ty\na\\tb\t\\N\n"


@SERVERS
def test_a_server_refuses_in_a_line(url: str) -> None:
    """As it refuses the formats that only the embedded engine writes."""
    wrong = typed("sql", "SELECT nothing FROM klines", "--store", url)
    assert wrong.code == 1
    assert "nothing" in wrong.err
    assert wrong.err.count("\n") == 1
    unknown = typed("sql", "SELECT 1", "--store", url, "--format", "Parquet")
    assert unknown.code == 2
    assert "Parquet" in unknown.err


@SERVERS
def test_a_server_is_exported(url: str, tmp_path: Path) -> None:
    """The closed candles, in the range asked for."""
    out = tmp_path / "klines.csv"
    exported = typed("export", "BTC*", "--store", url, "--out", str(out))
    assert (exported.code, exported.err) == (0, "")
    assert exported.out.startswith("2 candles of 1 series")
    rows = list(csv.DictReader(io.StringIO(out.read_text())))
    assert [row["open_time"] for row in rows] == [
        "2026-02-01 00:00:00.000",
        "2026-02-01 00:01:00.000",
    ]
    typed("export", "BTCUSDT", "--store", url, "--out", str(out), "--from", str(OPEN_MS + 1))
    assert len(out.read_text().splitlines()) == 2


def test_a_server_that_is_away_is_told(tmp_path: Path) -> None:
    """In a line, and no file is begun."""
    url = "clickhouse://127.0.0.1:1"
    for words in (["sql", "SELECT 1"], ["export", "*", "--out", str(tmp_path / "x.csv")]):
        failed = typed(*words, "--store", url)
        assert failed.code == 1
        assert failed.err.startswith("klineagent: clickhouse://127.0.0.1:1: ")
        assert failed.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
