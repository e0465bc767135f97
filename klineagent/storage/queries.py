"""What the stores of ClickHouse's kind say to their database once it is prepared. Pure.

Times are integer milliseconds on both sides of every query here.
"""
# ruff: noqa: S608 - every name goes through `quoted`, every text through `literal`

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from klineagent.kline import Interval, Kline
from klineagent.storage.schema import AGENT_COLUMNS, Layout, literal, quoted
from klineagent.storage.store import AgentRow

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def insert_klines(database: str) -> str:
    """An INSERT that rows in the order of `Kline` complete."""
    # `inserted_at` is not among them: the server fills it.
    return f"INSERT INTO {quoted(database)}.klines ({_names(Kline._fields)})"


def insert_agent(database: str) -> str:
    """An INSERT that an `agent_values` completes."""
    return f"INSERT INTO {quoted(database)}.agents ({_names(AGENT_COLUMNS)})"


def agent_values(row: AgentRow) -> tuple[str, int, int, int, int]:
    """`row` as it crosses into the database."""
    heartbeat_ms = (row.last_heartbeat - _EPOCH) // timedelta(milliseconds=1)
    return (row.ip, row.port, row.connection_count, row.assigned_symbol_count, heartbeat_ms)


def collapse_agents(database: str) -> str:
    """Merge table `agents` down to one row per agent.

    Merging by hand is bad practice for data; this table has a row per agent and a new one per
    minute, so the merge is a few kilobytes, and readers need not know about FINAL.
    """
    return f"OPTIMIZE TABLE {quoted(database)}.agents FINAL"


def select_summary(layout: Layout) -> str:
    """One row per series of `klines_final`, in the order of `SeriesSummary`'s fields."""
    opened = _milliseconds("open_time", layout)
    lengths = ", ".join(literal(interval.value) for interval in Interval)
    return (
        f"SELECT `venue`, `symbol`, `interval`, toInt64(count()), min({opened}), max({opened})"
        f" FROM {quoted(layout.database)}.klines_final"
        " GROUP BY `venue`, `symbol`, `interval`"
        f" ORDER BY `venue`, `symbol`, indexOf([{lengths}], `interval`)"
    )


def select_final(layout: Layout, venue: str, symbol: str, interval: str, newest: int | None) -> str:
    """Rows of one series of `klines_final`, newest first; columns in the order of `Kline`'s."""
    columns = ", ".join(_milliseconds(name, layout) for name in Kline._fields)
    return (
        f"SELECT {columns} FROM {quoted(layout.database)}.klines_final"
        f" WHERE `venue` = {literal(venue)} AND `symbol` = {literal(symbol)}"
        f" AND `interval` = {literal(interval)}"
        " ORDER BY `open_time` DESC" + (f" LIMIT {newest:d}" if newest is not None else "")
    )


def _milliseconds(name: str, layout: Layout) -> str:
    return f"toUnixTimestamp64Milli({quoted(name)})" if name in layout.ticking else quoted(name)


def _names(columns: Iterable[str]) -> str:
    return ", ".join(map(quoted, columns))
