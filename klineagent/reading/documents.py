"""Documents of candles for people and notebooks, written part by part. Pure.

A part is a few rows, or a table of a store that has tables: then pyarrow writes it, apart from
Python's lock.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Protocol

import msgspec

from klineagent.core.errors import InvalidRequest
from klineagent.core.interval import DAY_MS, SECOND_MS
from klineagent.core.kline import Kline, SeriesName
from klineagent.storage.reader import CANDLE_COLUMNS, TABLE_ROWS, CandleTable

# Their texts are some 15 MB while they are joined.
LINES_AT_ONCE = 10_000
# From here on Arrow writes floats with an exponent.
_EXPONENT_FROM = 1e10
SERIES = ("venue", "symbol", "interval")
COLUMNS = (*SERIES, *CANDLE_COLUMNS)
TIMES = frozenset({"open_time", "close_time"})
TEXTS = frozenset({*SERIES, "source"})
COUNTS = frozenset({"trades"})
# A column of documents that have forming candles, too.
IS_CLOSED = "is_closed"


class Document(Protocol):
    """Writes one document: its beginning, any number of parts, its end."""

    content_type: str

    def begin(self) -> bytes:
        """Return what comes before the first row."""

    def rows(self, klines: Sequence[Kline]) -> bytes:
        """Return some rows."""

    def table(self, series: SeriesName, table: CandleTable) -> bytes:
        """Return the closed candles of `series` in a table as rows."""

    def end(self) -> bytes:
        """Return what comes after the last row."""


class CsvDocument:
    """CSV with a line of names; times in ISO 8601, UTC. No value needs quotes."""

    content_type = "text/csv; charset=utf-8"

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = columns

    def begin(self) -> bytes:
        """See `Document`."""
        return f"{','.join(self._columns)}\n".encode()

    def rows(self, klines: Sequence[Kline]) -> bytes:
        """See `Document`."""
        lines = (",".join(map(_as_text, _values(each, self._columns))) for each in klines)
        return "".join(f"{line}\n" for line in lines).encode()

    def table(self, series: SeriesName, table: CandleTable) -> bytes:
        """See `Document`."""
        return _lines(series, table, self._pieces)

    def _pieces(self, texts: _Texts) -> list[Any]:
        pieces = [piece for name in self._columns for piece in (",", texts.of(name))]
        return [*pieces[1:], "\n"]

    def end(self) -> bytes:
        """See `Document`."""
        return b""


class JsonLinesDocument:
    """A JSON object a line; times in ISO 8601, UTC."""

    content_type = "application/x-ndjson"

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = columns

    def begin(self) -> bytes:
        """See `Document`."""
        return b""

    def rows(self, klines: Sequence[Kline]) -> bytes:
        """See `Document`."""
        rows = (dict(zip(self._columns, _values(k, self._columns), strict=True)) for k in klines)
        return b"".join(msgspec.json.encode(row) + b"\n" for row in rows)

    def table(self, series: SeriesName, table: CandleTable) -> bytes:
        """See `Document`."""
        return _lines(series, table, self._pieces)

    def _pieces(self, texts: _Texts) -> list[Any]:
        pieces, before = [], "{"
        for name in self._columns:
            quote = '"' if name in TEXTS or name in TIMES else ""
            pieces += [f'{before}"{name}":{quote}', texts.of(name)]
            before = f"{quote},"
        return [*pieces, f"{before[:-1]}}}\n"]

    def end(self) -> bytes:
        """See `Document`."""
        return b""


class ArrowDocument:
    """An Arrow IPC stream; times are timestamps in milliseconds, UTC."""

    content_type = "application/vnd.apache.arrow.stream"

    def __init__(self, columns: Sequence[str]) -> None:
        self._schema = _schema(columns)
        self._sink = _Sink()
        self._writer = self._opened()

    def _opened(self) -> Any:
        import pyarrow.ipc

        return pyarrow.ipc.new_stream(self._sink, self._schema)

    def begin(self) -> bytes:
        """See `Document`."""
        return self._sink.taken()

    def rows(self, klines: Sequence[Kline]) -> bytes:
        """See `Document`."""
        self._write(_table_of(klines, self._schema))
        return self._sink.taken()

    def table(self, series: SeriesName, table: CandleTable) -> bytes:
        """See `Document`."""
        self._write(_completed(series, table, self._schema))
        return self._sink.taken()

    def end(self) -> bytes:
        """See `Document`."""
        self._writer.close()
        return self._sink.taken()

    def _write(self, table: Any) -> None:
        self._writer.write_table(table)


class ParquetDocument(ArrowDocument):
    """A Parquet file, compressed; small parts share a row group."""

    content_type = "application/vnd.apache.parquet"

    def __init__(self, columns: Sequence[str]) -> None:
        super().__init__(columns)
        self._waiting: list[Any] = []

    def _opened(self) -> Any:
        import pyarrow.parquet

        return pyarrow.parquet.ParquetWriter(self._sink, self._schema, compression="zstd")

    def end(self) -> bytes:
        """See `Document`."""
        self._write_group()
        return super().end()

    def _write(self, table: Any) -> None:
        self._waiting.append(table)
        if sum(map(len, self._waiting)) >= TABLE_ROWS:
            self._write_group()

    def _write_group(self) -> None:
        import pyarrow as pa

        if self._waiting:
            self._writer.write_table(pa.concat_tables(self._waiting), row_group_size=2 * TABLE_ROWS)
            self._waiting.clear()


FORMATS: Mapping[str, type[CsvDocument | JsonLinesDocument | ArrowDocument]] = {
    "csv": CsvDocument,
    "jsonl": JsonLinesDocument,
    "arrow": ArrowDocument,
    "parquet": ParquetDocument,
}
CONTENT_TYPES = {name: kind.content_type for name, kind in FORMATS.items()}


def new_document(form: str, *, with_forming: bool) -> Document:
    """Begin a document in a format, with a column `is_closed` where not all candles are.

    Raises:
        InvalidRequest: there is no such format, or it needs what is not installed.
    """
    if (make := FORMATS.get(form)) is None:
        raise InvalidRequest(f"format: {form!r} is none of {', '.join(FORMATS)}")
    try:
        return make((*COLUMNS, IS_CLOSED) if with_forming else COLUMNS)
    except ImportError as error:
        raise InvalidRequest(
            f"format: {form} needs pyarrow, which klineagent[embedded] brings; use csv or jsonl"
        ) from error


class _Sink(io.RawIOBase):
    """A file that is taken away while it is written."""

    def __init__(self) -> None:
        self._written: list[bytes] = []
        self._at = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._written.append(bytes(data))
        self._at += len(self._written[-1])
        return len(self._written[-1])

    def tell(self) -> int:
        return self._at

    def taken(self) -> bytes:
        """Return what was written since the last call."""
        written = b"".join(self._written)
        self._written.clear()
        return written


def _values(kline: Kline, columns: Sequence[str]) -> list[object]:
    row = [getattr(kline, name) for name in columns]
    return [
        _utc(value) if name in TIMES else value for name, value in zip(columns, row, strict=True)
    ]


def _as_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _utc(time_ms: int) -> str:
    moment = datetime.fromtimestamp(time_ms / SECOND_MS, UTC)
    return moment.isoformat(timespec="milliseconds" if time_ms % SECOND_MS else "seconds")


@lru_cache(maxsize=4_096)  # the minutes of a day, as opens and as closes
def _clock(time_ms: int) -> str:
    return _utc(time_ms)[len("1970-01-01") :]


def _schema(columns: Sequence[str]) -> Any:
    import pyarrow as pa

    types: dict[str, Any] = dict.fromkeys(columns, pa.float64())
    kinds = [(TEXTS, pa.string()), (TIMES, pa.timestamp("ms", tz="UTC")), (COUNTS, pa.int64())]
    for names, kind in [*kinds, ({IS_CLOSED}, pa.bool_())]:
        types |= {name: kind for name in names if name in types}
    return pa.schema(types)


def _table_of(klines: Sequence[Kline], schema: Any) -> Any:
    import pyarrow as pa

    columns = [[getattr(row, name) for row in klines] for name in schema.names]
    return pa.table(
        [pa.array(each, kind) for each, kind in zip(columns, schema.types, strict=True)],
        schema=schema,
    )


def _completed(series: SeriesName, table: CandleTable, schema: Any) -> Any:
    """Return a table of closed candles with all columns of `schema`."""
    import pyarrow as pa

    same: dict[str, object] = {**dict(zip(SERIES, series, strict=True)), IS_CLOSED: True}
    columns = [
        pa.repeat(pa.scalar(same[each.name], each.type), len(table))
        if each.name in same
        else table[each.name]
        for each in schema
    ]
    return pa.table(columns, schema=schema)


def _lines(
    series: SeriesName, table: CandleTable, pieces: Callable[[_Texts], Sequence[Any]]
) -> bytes:
    """Write the rows of a table as text, each of the `pieces` of its columns."""
    texts = (
        _Texts(series, table[at : at + LINES_AT_ONCE]) for at in range(0, len(table), LINES_AT_ONCE)
    )
    return b"".join(each.joined(pieces(each)) for each in texts)


class _Texts:
    """The columns of a table of closed candles as text."""

    def __init__(self, series: SeriesName, table: CandleTable) -> None:
        import pyarrow as pa
        import pyarrow.compute

        self._pa, self._compute = pa, pa.compute
        self._table = table
        self._same = {**dict(zip(SERIES, series, strict=True)), IS_CLOSED: "true"}

    def of(self, name: str) -> Any:
        """Return the text of a column: one for all rows, or an array."""
        if name in self._same:
            return self._same[name]
        column = self._table[name]
        if name in TIMES:
            return self._moments(column)
        if name in TEXTS or name in COUNTS:
            return column.cast(self._pa.string())
        return self._numbers(column)

    def joined(self, pieces: Sequence[Any]) -> bytes:
        """Join the pieces of each row, and the rows."""
        lines = self._compute.binary_join_element_wise(*pieces, "").combine_chunks()
        size = self._compute.sum(self._compute.binary_length(lines)).as_py()
        # Its buffer holds the texts one after another.
        return memoryview(lines.buffers()[2])[:size].tobytes()

    def _numbers(self, column: Any) -> Any:
        """Write floats as Python does: whole ones with `.0`, or readers take them for integers."""
        compute = self._compute
        text = column.cast(self._pa.string())
        is_whole = compute.and_(
            compute.equal(column, compute.floor(column)),
            compute.less(compute.abs(column), _EXPONENT_FROM),
        )
        return compute.if_else(is_whole, compute.binary_join_element_wise(text, "0", "."), text)

    def _moments(self, column: Any) -> Any:
        """Write times: each day and each time of a day once, as candles share them."""
        compute, pa = self._compute, self._pa
        plain = column.cast(pa.int64()).combine_chunks()
        days = compute.divide(plain, DAY_MS)
        times = compute.subtract(plain, compute.multiply(days, DAY_MS)).dictionary_encode()
        days = days.dictionary_encode()
        dates = [_utc(day * DAY_MS)[:10] for day in days.dictionary.to_pylist()]
        clocks = [_clock(time_ms) for time_ms in times.dictionary.to_pylist()]
        return compute.binary_join_element_wise(
            pa.array(dates).take(days.indices), pa.array(clocks).take(times.indices), ""
        )
