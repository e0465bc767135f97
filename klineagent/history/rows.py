"""Rows of the archive's files, read and checked by Python: for databases that only take rows. Pure.

It finds the same as the engine does by SQL, see `storage/clickhouse/history/unit.py`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from operator import add

import msgspec
from attrs import frozen

from klineagent.core.errors import UNREADABLE
from klineagent.core.interval import DAY_MS, GRIDS, Interval, on_grid
from klineagent.core.kline import Kline, least_version
from klineagent.exchange.rest_answers import is_candle
from klineagent.exchange.wire import NO_TRADE_ID
from klineagent.history.archive.zips import FileDamaged, inflated
from klineagent.storage.digests import digest_sum
from klineagent.storage.history import FileFacts, PackedFile

# Spot files are in microseconds since 2025; in milliseconds this is the year 5138.
_MICROSECONDS_FROM = 100_000_000_000_000


class ArchivedRow(msgspec.Struct, array_like=True, gc=False):
    """A row as the archive has it; times in milliseconds or microseconds."""

    open_time: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    close_time: int
    quote_volume: float
    trades: int
    taker_buy_volume: float
    taker_buy_quote_volume: float


_decode = msgspec.json.Decoder(ArchivedRow).decode_lines


@frozen
class FileRows:
    """The rows of a file, and what a check of them found."""

    rows: Sequence[ArchivedRow]
    """Those in its period and on the grid, ascending, each once; none if it is unreadable."""
    facts: FileFacts


def read_rows(file: PackedFile, interval: Interval) -> FileRows:
    """Read and check the rows of a file."""
    try:
        rows = _parsed(file)
    except FileDamaged as error:
        return FileRows((), FileFacts(unreadable=str(error)))
    for row in rows:
        if row.open_time >= _MICROSECONDS_FROM:
            row.open_time //= 1_000
    inside = [row for row in rows if file.first_ms <= row.open_time < file.end_ms]
    grid = {*on_grid((row.open_time for row in inside), interval.value)}
    taken = [row for row in inside if row.open_time in grid]
    by_open = {row.open_time: row for row in taken}
    distinct = len(by_open)
    if distinct < len(taken):  # never yet but in a few files
        distinct = len({(row.open_time, *_digested(row)) for row in taken})
    kept = [by_open[open_ms] for open_ms in sorted(by_open)]
    days: dict[int, list[ArchivedRow]] = defaultdict(list)
    for row in kept:
        days[row.open_time // DAY_MS].append(row)
    facts = FileFacts(
        rows=len(kept),
        duplicates=len(taken) - distinct,
        conflicts=distinct - len(by_open),
        outside=len(rows) - len(inside),
        off_grid=len(inside) - len(taken),
        impossible=sum(not is_candle(row) for row in rows),
        first_open=kept[0].open_time if kept else 0,
        last_open=kept[-1].open_time if kept else 0,
        days={
            day: (len(some), digest_sum((row.open_time, _digested(row)) for row in some))
            for day, some in days.items()
        },
    )
    return FileRows(kept, facts)


def _parsed(file: PackedFile) -> list[ArchivedRow]:
    text = inflated(file.gz)
    if file.has_header:
        text = text.partition(b"\n")[2]
    text = text.replace(b"\r", b"").strip(b"\n")
    if not text:
        return []
    try:
        return _decode(b"[" + text.replace(b"\n", b"]\n[") + b"]")
    except UNREADABLE as error:
        raise FileDamaged(f"its rows cannot be read: {error}") from error


def _digested(row: ArchivedRow) -> tuple[float, ...]:
    return (
        *(row.open, row.high, row.low, row.close, row.volume, row.quote_volume),
        *(row.trades, row.taker_buy_volume, row.taker_buy_quote_volume),
    )


def as_klines(
    rows: Iterable[ArchivedRow], venue: str, symbol: str, interval: Interval
) -> list[Kline]:
    """Convert to rows of closed candles, outranked by whatever a stream says of them.

    The close is the regular one, not that of the file: so have events, of a candle that was cut
    short, too.
    """
    name, grid = interval.value, GRIDS[interval.value]
    close_of: Callable[[int], int] = interval.close_of
    if grid.step_ms == grid.longest_ms:  # a tenth of the time, and there are millions
        close_of = partial(add, grid.step_ms - 1)
    return [
        Kline(
            venue,
            symbol,
            name,
            row.open_time,
            close_ms := close_of(row.open_time),
            row.open,
            row.high,
            row.low,
            row.close,
            row.volume,
            row.quote_volume,
            row.trades,
            row.taker_buy_volume,
            row.taker_buy_quote_volume,
            NO_TRADE_ID,
            NO_TRADE_ID,
            True,
            close_ms + 1,
            least_version(close_ms),
            "archive",
        )
        for row in rows
    ]
