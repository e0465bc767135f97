"""The SQL of a prepared ClickHouse store. Pure.

Times are integer milliseconds on both sides of every query here.
"""
# ruff: noqa: S608 - every name goes through `quoted`, every text through `literal`

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from klineagent.core.interval import Interval
from klineagent.core.kline import Kline, SeriesName
from klineagent.storage.clickhouse.tables.schema import AGENT_COLUMNS, Layout, literal, quoted
from klineagent.storage.reader import CANDLE_COLUMNS, KlineRange
from klineagent.storage.store import AgentRow, Table

# A table takes a tenth of a second and 10 MB: these stop what a fault makes of it.
_TABLE_LIMITS = "max_threads = 1, max_execution_time = 30, max_memory_usage = 400000000"
_INTERVALS = {interval.value: interval for interval in Interval}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def insert_klines(layout: Layout, table: Table) -> str:
    """Make the INSERT to be sent with `kline_rows` of the same layout."""
    # Without `inserted_at`, which the server fills.
    columns = [*Kline._fields, "length_ms"] if layout.with_lengths else Kline._fields
    return f"INSERT INTO {quoted(layout.database)}.{table.value} ({_names(columns)})"


def kline_rows(layout: Layout, klines: Sequence[Kline]) -> Sequence[Sequence[object]]:
    """Convert klines to rows of an INSERT."""
    return [(*kline, _length_of(kline)) for kline in klines] if layout.with_lengths else klines


def _length_of(kline: Kline) -> int:
    interval = _INTERVALS.get(kline.interval)
    if interval is None:
        return kline.close_time - kline.open_time + 1
    return interval.length_at(kline.open_time)


def insert_agent(database: str) -> str:
    """Make the INSERT to be sent with `agent_values`."""
    return f"INSERT INTO {quoted(database)}.agents ({_names(AGENT_COLUMNS)})"


def agent_values(row: AgentRow) -> tuple[str, int, int, int, int]:
    """Convert `row` to the values of an INSERT."""
    heartbeat_ms = (row.last_heartbeat - _EPOCH) // timedelta(milliseconds=1)
    return (row.ip, row.port, row.connection_count, row.assigned_symbol_count, heartbeat_ms)


def collapse_agents(database: str) -> str:
    """Make the statement that merges table `agents` down to one row per agent.

    Forced merges are bad practice on large tables; this one gets a row per agent and minute, so a
    merge is a few kilobytes, and readers need no FINAL.
    """
    return f"OPTIMIZE TABLE {quoted(database)}.agents FINAL"


def select_summary(layout: Layout) -> str:
    """Make a query with a row per series of `klines_final`: the fields of `SeriesSummary`."""
    opened = milliseconds("open_time", layout)
    lengths = ", ".join(literal(interval.value) for interval in Interval)
    return (
        f"SELECT `venue`, `symbol`, `interval`, toInt64(count()), min({opened}), max({opened})"
        f" FROM {quoted(layout.database)}.klines_final"
        " GROUP BY `venue`, `symbol`, `interval`"
        f" ORDER BY `venue`, `symbol`, indexOf([{lengths}], `interval`)"
    )


def select_final(layout: Layout, venue: str, symbol: str, interval: str, newest: int | None) -> str:
    """Make a query for `Kline`s of one series in `klines_final`, newest first."""
    source = f"{quoted(layout.database)}.klines_final"
    return _select_series(layout, source, (venue, symbol, interval), ["open_time"], newest)


def select_range(layout: Layout, wanted: KlineRange, most: int) -> str:
    """Make a query for the first `Kline`s of `wanted` in its order, up to `most`."""
    within = _within(layout, wanted.series, wanted.first_ms, wanted.end_ms)
    order = "`open_time` DESC" if wanted.is_newest_first else "`open_time`"
    return (
        f"SELECT {_columns(layout)} FROM {_final(layout)} AND {within}"
        f" ORDER BY {order} LIMIT {most:d}"
    )


def select_table(layout: Layout, wanted: KlineRange) -> str:
    """Make a query for `CANDLE_COLUMNS` of `wanted`, ascending; times stay times."""
    within = _within(layout, wanted.series, wanted.first_ms, wanted.end_ms)
    written = {"source": _source(layout), "trades": "toInt64(`trades`) AS `trades`"}
    columns = [written.get(name, quoted(name)) for name in CANDLE_COLUMNS]
    return (
        f"SELECT {', '.join(columns)} FROM {_final(layout)} AND {within}"
        f" ORDER BY `open_time` SETTINGS {_TABLE_LIMITS}"
    )


def _final(layout: Layout) -> str:
    """Write what view `klines_final` selects from; through the view it takes a third longer."""
    return f"{quoted(layout.database)}.{Table.KLINES.value} FINAL WHERE `is_closed`"


def select_candle(layout: Layout, venue: str, symbol: str, interval: str, open_time: int) -> str:
    """Make a query for the `Kline` of one candle in `klines_final`."""
    source = f"{quoted(layout.database)}.klines_final"
    within = _within(layout, (venue, symbol, interval), open_time, open_time + 1)
    return f"SELECT {_columns(layout)} FROM {source} WHERE {within}"


def select_ranks(
    layout: Layout, venue: str, symbol: str, interval: str, first_ms: int, end_ms: int
) -> str:
    """Make a query for open time and highest version of candles in [`first_ms`, `end_ms`)."""
    within = _within(layout, (venue, symbol, interval), first_ms, end_ms)
    return (
        f"SELECT {milliseconds('open_time', layout)} AS `opened`, max(`version`)"
        f" FROM {quoted(layout.database)}.{Table.KLINES.value} WHERE {within} GROUP BY `opened`"
    )


def _within(layout: Layout, series: SeriesName, first_ms: int, end_ms: int) -> str:
    venue, symbol, interval = map(literal, series)
    # The column itself is compared, not its milliseconds, so that the index finds the rows.
    return (
        f"`venue` = {venue} AND `symbol` = {symbol} AND `interval` = {interval}"
        f" AND `open_time` >= {moment('open_time', first_ms, layout)}"
        f" AND `open_time` < {moment('open_time', end_ms, layout)}"
    )


def select_updates(
    layout: Layout, venue: str, symbol: str, interval: str, newest: int | None
) -> str:
    """Make a query for the states of one series in `kline_updates`, newest first."""
    source = f"{quoted(layout.database)}.{Table.UPDATES.value} FINAL"
    order = ["open_time", "event_time", "version"]
    return _select_series(layout, source, (venue, symbol, interval), order, newest)


def _select_series(
    layout: Layout,
    source: str,
    series: SeriesName,
    order: Iterable[str],
    newest: int | None,
) -> str:
    venue, symbol, interval = map(literal, series)
    descending = ", ".join(f"{quoted(name)} DESC" for name in order)
    return (
        f"SELECT {_columns(layout)} FROM {source}"
        f" WHERE `venue` = {venue} AND `symbol` = {symbol} AND `interval` = {interval}"
        f" ORDER BY {descending}" + (f" LIMIT {newest:d}" if newest is not None else "")
    )


def _columns(layout: Layout) -> str:
    """List the columns of `Kline` in order, with times as numbers."""
    columns = [milliseconds(name, layout) for name in Kline._fields]
    columns[Kline._fields.index("source")] = _source(layout)
    return ", ".join(columns)


def _source(layout: Layout) -> str:
    return "'unknown' AS `source`" if layout.without_source else "`source`"


def milliseconds(name: str, layout: Layout) -> str:
    """Make an expression for the time in column `name` as milliseconds."""
    return f"toUnixTimestamp64Milli({quoted(name)})" if name in layout.ticking else quoted(name)


def moment(name: str, time_ms: int, layout: Layout) -> str:
    """Make an expression for `time_ms` as a value of column `name`."""
    ticks = f"toInt64({time_ms:d})"
    return f"fromUnixTimestamp64Milli({ticks}, 'UTC')" if name in layout.ticking else ticks


def _names(columns: Iterable[str]) -> str:
    return ", ".join(map(quoted, columns))
