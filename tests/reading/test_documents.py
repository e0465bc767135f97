"""Documents of candles: rows and tables of a store are written alike, in each format."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klineagent.core.errors import InvalidRequest
from klineagent.core.kline import Kline
from klineagent.reading.documents import COLUMNS, FORMATS, TIMES, Document, new_document
from klineagent.storage.reader import CANDLE_COLUMNS, CandleTable
from tests.klines import a_kline

NAME = ("usdm", "BTCUSDT", "1m")
FLOATS = {*CANDLE_COLUMNS} - TIMES - {"trades", "source"}
numbers = st.one_of(
    st.floats(min_value=0, max_value=1e18, allow_subnormal=False),
    st.integers(min_value=0, max_value=10**17).map(float),
    st.decimals(min_value=0, max_value=10**6, places=8).map(float),
)
klines = st.builds(
    lambda minute, price, volume, trades: a_kline(minute)._replace(
        open=price, close=price, volume=volume, quote_volume=price, trades=trades
    ),
    minute=st.integers(min_value=0, max_value=10**6),
    price=numbers,
    volume=numbers,
    trades=st.integers(min_value=0, max_value=2**32 - 1),
)


def a_table(rows: Sequence[Kline]) -> CandleTable:
    """Rows as an engine returns them."""
    kinds = dict.fromkeys(CANDLE_COLUMNS, pa.float64())
    kinds |= dict.fromkeys(TIMES, pa.timestamp("ms", tz="UTC"))
    kinds |= {"trades": pa.int64(), "source": pa.string()}
    return pa.table(
        {name: pa.array([getattr(row, name) for row in rows], kind) for name, kind in kinds.items()}
    )


def parsed(form: str, body: bytes) -> list[dict[str, Any]]:
    """The rows of a whole document."""
    if form == "arrow":
        return list(pa.ipc.open_stream(body).read_all().to_pylist())
    if form == "parquet":
        return list(pa.parquet.read_table(io.BytesIO(body)).to_pylist())
    if form == "csv":
        return [*csv.DictReader(io.StringIO(body.decode()))]
    return [msgspec.json.decode(line) for line in body.splitlines()]


def whole(document: Document, parts: Sequence[bytes]) -> bytes:
    """A document of parts that were written after its beginning."""
    return b"".join([*parts, document.end()])


@pytest.mark.parametrize("form", FORMATS)
@settings(max_examples=40, deadline=None)
@given(st.lists(klines, min_size=1, max_size=20))
def test_rows_and_tables_are_written_alike(form: str, rows: list[Kline]) -> None:
    """Value by value; numbers are the same numbers, and whole ones are not integers."""
    bodies = []
    for as_table in (False, True):
        document = new_document(form, with_forming=True)
        parts = [document.begin()]
        for some in (rows[:7], rows[7:]):
            parts += [document.table(NAME, a_table(some)) if as_table else document.rows(some)]
        bodies.append(whole(document, parts))
    of_rows, of_tables = (parsed(form, body) for body in bodies)
    assert [*of_rows[0]] == [*COLUMNS, "is_closed"]
    if form == "csv":
        for written in (of_rows, of_tables):
            assert all("." in row["volume"] or "e" in row["volume"] for row in written)
        for row in (*of_rows, *of_tables):
            row |= {name: float(row[name]) for name in FLOATS}
    assert of_rows == of_tables


@pytest.mark.parametrize("form", FORMATS)
def test_many_small_parts_are_one_document(form: str) -> None:
    """An empty one, too."""
    for count in (0, 1, 1_000):
        document = new_document(form, with_forming=False)
        parts = [document.begin()]
        rows = [a_kline(minute) for minute in range(count)]
        tables = (a_table(rows[at : at + 10]) for at in range(0, count, 10))
        parts += [document.table(NAME, table) for table in tables]
        parts.append(document.table(NAME, a_table([])))
        assert len(parsed(form, whole(document, parts))) == count


def test_polars_takes_no_column_for_integers_that_has_fractions_later() -> None:
    """It decides by the first hundred rows."""
    document = new_document("csv", with_forming=False)
    rows = [a_kline(minute)._replace(volume=float(minute)) for minute in range(200)]
    rows.append(a_kline(200)._replace(volume=0.5))
    body = whole(document, [document.begin(), document.table(NAME, a_table(rows))])
    assert pl.read_csv(body)["volume"].to_list()[-1] == 0.5


def test_an_unknown_format_is_refused() -> None:
    """With the known ones."""
    with pytest.raises(InvalidRequest, match="csv, jsonl, arrow, parquet"):
        new_document("xls", with_forming=False)
