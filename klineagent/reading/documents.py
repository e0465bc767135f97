"""Documents of candles for people and notebooks, written part by part. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec

from klineagent.core.errors import InvalidRequest
from klineagent.core.interval import SECOND_MS
from klineagent.core.kline import Kline

COLUMNS = (
    *("venue", "symbol", "interval", "open_time", "close_time"),
    *("open", "high", "low", "close", "volume", "quote_volume", "trades"),
    *("taker_buy_volume", "taker_buy_quote_volume", "source"),
)
TIMES = frozenset({"open_time", "close_time"})
_PLACES = tuple(Kline._fields.index(name) for name in COLUMNS)


class Document(Protocol):
    """Writes one document: its beginning, any number of parts, its end."""

    content_type: str

    def begin(self) -> bytes:
        """Return what comes before the first row."""

    def part(self, klines: Sequence[Kline]) -> bytes:
        """Return some rows."""

    def end(self) -> bytes:
        """Return what comes after the last row."""


class CsvDocument:
    """CSV with a line of names; times in ISO 8601, UTC."""

    content_type = "text/csv; charset=utf-8"

    def begin(self) -> bytes:
        """See `Document`."""
        return self._lines([COLUMNS])

    def part(self, klines: Sequence[Kline]) -> bytes:
        """See `Document`."""
        return self._lines([_values(each) for each in klines])

    def end(self) -> bytes:
        """See `Document`."""
        return b""

    @staticmethod
    def _lines(rows: Sequence[Sequence[object]]) -> bytes:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        return text.getvalue().encode()


class JsonLinesDocument:
    """A JSON object a line; times in ISO 8601, UTC."""

    content_type = "application/x-ndjson"

    def begin(self) -> bytes:
        """See `Document`."""
        return b""

    def part(self, klines: Sequence[Kline]) -> bytes:
        """See `Document`."""
        rows = (dict(zip(COLUMNS, _values(each), strict=True)) for each in klines)
        return b"".join(msgspec.json.encode(row) + b"\n" for row in rows)

    def end(self) -> bytes:
        """See `Document`."""
        return b""


class ArrowDocument:
    """An Arrow IPC stream; times are timestamps in milliseconds, UTC."""

    content_type = "application/vnd.apache.arrow.stream"

    def __init__(self) -> None:
        try:
            import pyarrow as pa
        except ImportError as error:
            raise InvalidRequest(
                "format: arrow needs pyarrow, which klineagent[embedded] brings; use csv or jsonl"
            ) from error
        types: dict[str, Any] = dict.fromkeys(COLUMNS, pa.float64())
        types |= dict.fromkeys(("venue", "symbol", "interval", "source"), pa.string())
        types |= dict.fromkeys(TIMES, pa.timestamp("ms", tz="UTC"))
        types["trades"] = pa.int64()
        self._schema = pa.schema(types)
        self._batch: Callable[..., Any] = pa.record_batch
        self._sink = io.BytesIO()
        self._writer = pa.ipc.new_stream(self._sink, self._schema)

    def begin(self) -> bytes:
        """See `Document`."""
        return self._taken()

    def part(self, klines: Sequence[Kline]) -> bytes:
        """See `Document`."""
        columns = [[row[at] for row in klines] for at in _PLACES]
        self._writer.write_batch(self._batch(columns, schema=self._schema))
        return self._taken()

    def end(self) -> bytes:
        """See `Document`."""
        self._writer.close()
        return self._taken()

    def _taken(self) -> bytes:
        written = self._sink.getvalue()
        self._sink.seek(0)
        self._sink.truncate()
        return written


FORMATS: Mapping[str, Callable[[], Document]] = {
    "csv": CsvDocument,
    "jsonl": JsonLinesDocument,
    "arrow": ArrowDocument,
}


def _values(kline: Kline) -> list[object]:
    row: list[object] = [kline[at] for at in _PLACES]
    for at, name in enumerate(COLUMNS):
        if name in TIMES:
            row[at] = _utc(row[at])
    return row


def _utc(time_ms: Any) -> str:
    moment = datetime.fromtimestamp(time_ms / SECOND_MS, UTC)
    return moment.isoformat(timespec="milliseconds" if time_ms % SECOND_MS else "seconds")
