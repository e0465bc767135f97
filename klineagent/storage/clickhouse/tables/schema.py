"""The tables as SQL, in the dialect of the server. Pure.

The server's version selects a `Dialect`, which holds all differences as data. Names are always
back-quoted, because `interval` is a keyword on old servers.
"""
# ruff: noqa: S608 - every name goes through `quoted`, every text through `literal`

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import evolve, field, frozen

from klineagent.storage.store import Table

Rows = Sequence[Sequence[Any]]


class ColumnKind(enum.Enum):
    """What a column holds; a dialect maps it to a type."""

    TEXT = enum.auto()
    TIME = enum.auto()
    REAL = enum.auto()
    COUNT = enum.auto()
    TRADE_ID = enum.auto()
    FLAG = enum.auto()
    VERSION = enum.auto()
    SOURCE = enum.auto()
    LENGTH = enum.auto()
    INSERTED_AT = enum.auto()
    ADDRESS = enum.auto()
    PORT = enum.auto()
    HEARTBEAT = enum.auto()


KLINE_COLUMNS: Mapping[str, ColumnKind] = {
    "venue": ColumnKind.TEXT,
    "symbol": ColumnKind.TEXT,
    "interval": ColumnKind.TEXT,
    "open_time": ColumnKind.TIME,
    "close_time": ColumnKind.TIME,
    "open": ColumnKind.REAL,
    "high": ColumnKind.REAL,
    "low": ColumnKind.REAL,
    "close": ColumnKind.REAL,
    "volume": ColumnKind.REAL,
    "quote_volume": ColumnKind.REAL,
    "trades": ColumnKind.COUNT,
    "taker_buy_volume": ColumnKind.REAL,
    "taker_buy_quote_volume": ColumnKind.REAL,
    "first_trade_id": ColumnKind.TRADE_ID,
    "last_trade_id": ColumnKind.TRADE_ID,
    "is_closed": ColumnKind.FLAG,
    "event_time": ColumnKind.TIME,
    "version": ColumnKind.VERSION,
    "source": ColumnKind.SOURCE,
    "inserted_at": ColumnKind.INSERTED_AT,
}
AGENT_COLUMNS: Mapping[str, ColumnKind] = {
    "ip": ColumnKind.ADDRESS,
    "port": ColumnKind.PORT,
    "connection_count": ColumnKind.COUNT,
    "assigned_symbol_count": ColumnKind.COUNT,
    "last_heartbeat": ColumnKind.HEARTBEAT,
}
# By the names users read, in order of creation.
TABLES: Mapping[str, Mapping[str, ColumnKind]] = {
    "klines": KLINE_COLUMNS,
    "agents": AGENT_COLUMNS,
    "klines_final": KLINE_COLUMNS,
}
# Not among them: it is created by the first insert into it.
UPDATES = Table.UPDATES.value


@frozen(kw_only=True)
class Dialect:
    """The SQL that a kind of server understands."""

    types: Mapping[ColumnKind, str]
    """Column types, with default and codec."""
    order_by: str
    """The primary key of `klines`, which identifies a candle."""
    more_columns: Mapping[str, ColumnKind] = field(factory=dict)
    """Columns of `klines` and `kline_updates` besides those on all servers."""
    partition_by: str
    table_settings: Mapping[str, int] = field(factory=dict)
    """Settings of tables `klines` and `kline_updates`."""
    updates_partition_by: str
    updates_index: str = ""
    """An index in table `kline_updates`, besides its key."""
    updates_ttl: str = ""
    """When a row of table `kline_updates` expires."""
    updates_settings: Mapping[str, int] = field(factory=dict)
    """More settings of table `kline_updates`."""
    insert_settings: Mapping[str, str | int] = field(factory=dict)
    """Settings of every insert."""
    knows_tokens: bool
    """Whether the server deduplicates inserts by token."""
    shadow_times: bool
    """Whether times are integers, each with a readable alias column `<name>_utc`."""


_TIME = "DateTime64(3, 'UTC')"
_SORTED_CODEC = "CODEC(Delta(8), ZSTD(1))"

MODERN = Dialect(
    types={
        ColumnKind.TEXT: "LowCardinality(String)",
        ColumnKind.TIME: f"{_TIME} {_SORTED_CODEC}",
        # Plain ZSTD compresses prices best of the stable codecs; Gorilla takes 50 % more.
        ColumnKind.REAL: "Float64 CODEC(ZSTD(1))",
        ColumnKind.COUNT: "UInt32 CODEC(T64, ZSTD(1))",
        ColumnKind.TRADE_ID: f"Int64 {_SORTED_CODEC}",
        ColumnKind.FLAG: "Bool",
        ColumnKind.VERSION: f"UInt64 {_SORTED_CODEC}",
        ColumnKind.SOURCE: "LowCardinality(String) DEFAULT 'unknown'",
        ColumnKind.INSERTED_AT: f"{_TIME} DEFAULT now64(3, 'UTC') {_SORTED_CODEC}",
        ColumnKind.ADDRESS: "String",
        ColumnKind.PORT: "UInt16",
        ColumnKind.HEARTBEAT: _TIME,
    },
    order_by="`venue`, `symbol`, `interval`, `open_time`",
    partition_by="toYYYYMM(`open_time`)",
    table_settings={
        # Without a window the server forgets tokens at once.
        "non_replicated_deduplication_window": 10_000,
        # A past month soon is merged to one part, and then FINAL costs next to nothing.
        "min_age_to_force_merge_seconds": 3600,
        "min_age_to_force_merge_on_partition_only": 1,
    },
    updates_partition_by="toYYYYMMDD(`open_time`)",
    updates_index="INDEX `told` `event_time` TYPE minmax GRANULARITY 4",
    # From the event time, not the open time: a month's candle is still forming on day 15.
    updates_ttl="toDateTime(`event_time`) + INTERVAL 14 DAY DELETE",
    # Parts expire as a whole; none is rewritten to drop some of its rows.
    updates_settings={"ttl_only_drop_parts": 1},
    insert_settings={
        # Asynchronous inserts are the default since 26.2. We batch already: they would only add
        # latency, and packets after which the driver takes a refused insert for a stored one.
        "async_insert": 0,
        "send_logs_level": "none",
        # A backfill of long intervals touches more months than the default of 100.
        "max_partitions_per_insert_block": 1000,
    },
    knows_tokens=True,
    shadow_times=False,
)

LEGACY = Dialect(
    types={
        ColumnKind.TEXT: "String",
        ColumnKind.TIME: "Int64",
        ColumnKind.REAL: "Float64",
        ColumnKind.COUNT: "UInt32",
        ColumnKind.TRADE_ID: "Int64",
        ColumnKind.FLAG: "UInt8",
        ColumnKind.VERSION: "UInt64",
        ColumnKind.SOURCE: "String DEFAULT 'unknown'",
        # Older agents do not fill it; the default is what their key was made of.
        ColumnKind.LENGTH: "Int64 DEFAULT `close_time` - `open_time` + 1",
        ColumnKind.INSERTED_AT: "Int64 DEFAULT toInt64(now()) * 1000",
        ColumnKind.ADDRESS: "String",
        ColumnKind.PORT: "UInt16",
        ColumnKind.HEARTBEAT: "UInt64",  # signed integers cannot be a version here
    },
    # 18.16 stores names unquoted, and does not start again if `interval`, a keyword, is part of an
    # expression. The nominal length of an interval's candles identifies it as well; their actual
    # length does not, for all candles end at once when the exchange halts.
    order_by="`venue`, `symbol`, `length_ms`, `open_time`",
    more_columns={"length_ms": ColumnKind.LENGTH},
    partition_by="toYYYYMM(toDateTime(intDiv(`open_time`, 1000), 'UTC'))",
    updates_partition_by="toYYYYMMDD(toDateTime(intDiv(`open_time`, 1000), 'UTC'))",
    insert_settings={"send_logs_level": "none"},
    knows_tokens=False,
    shadow_times=True,
)

EMBEDDED = evolve(
    MODERN,
    table_settings={
        **MODERN.table_settings,
        # The embedded database often runs on a laptop: inserts must survive power loss, and a
        # merge's sources are kept until its result is surely on disk.
        "fsync_after_insert": 1,
        "fsync_part_directory": 1,
        "old_parts_lifetime": 480,
    },
)

# The first long-term release with everything MODERN uses; the last of it came in 22.11.
_MODERN_SINCE = (23, 3)


def dialect_of(version: str) -> Dialect:
    """Return the dialect of a server that answers `version` to `SELECT version()`."""
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    return MODERN if numbers >= _MODERN_SINCE else LEGACY


@frozen(kw_only=True)
class Layout:
    """The tables found or created on a server: enough to write every query."""

    database: str
    dialect: Dialect
    ticking: frozenset[str]
    """Time columns of type DateTime64; the others are integers, in milliseconds."""
    without_source: bool = False
    """Whether the table read has no column `source` yet."""
    with_lengths: bool = False
    """Whether inserts fill column `length_ms`."""


def create_statements(database: str, dialect: Dialect) -> list[str]:
    """Make the DDL of the database, its tables and its view, in order of execution."""
    within = quoted(database)
    agents = (
        f"CREATE TABLE IF NOT EXISTS {within}.agents ({_definitions(AGENT_COLUMNS, dialect)})"
        " ENGINE = ReplacingMergeTree(`last_heartbeat`) ORDER BY (`ip`, `port`)"
    )
    return [
        f"CREATE DATABASE IF NOT EXISTS {within}",
        create_klines(database, dialect),
        agents,
        create_view(database, shadows(KLINE_COLUMNS, dialect)),
    ]


def create_klines(database: str, dialect: Dialect, name: str = "klines") -> str:
    """Make the DDL of table `klines`, or of one like it."""
    definitions = _definitions({**KLINE_COLUMNS, **dialect.more_columns}, dialect)
    return (
        f"CREATE TABLE IF NOT EXISTS {quoted(database)}.{name} ({definitions})"
        f" ENGINE = ReplacingMergeTree(`version`) PARTITION BY {dialect.partition_by}"
        f" ORDER BY ({dialect.order_by})" + _settings(dialect.table_settings)
    )


def create_updates(database: str, dialect: Dialect, name: str = UPDATES) -> str:
    """Make the DDL of table `kline_updates`, or of one like it."""
    definitions = _definitions({**KLINE_COLUMNS, **dialect.more_columns}, dialect)
    if dialect.updates_index:
        definitions += f", {dialect.updates_index}"
    statement = (
        f"CREATE TABLE IF NOT EXISTS {quoted(database)}.{name} ({definitions})"
        f" ENGINE = ReplacingMergeTree PARTITION BY {dialect.updates_partition_by}"
        f" ORDER BY ({dialect.order_by}, `event_time`, `version`)"
    )
    if dialect.updates_ttl:
        statement += f" TTL {dialect.updates_ttl}"
    return statement + _settings({**dialect.table_settings, **dialect.updates_settings})


def create_view(
    database: str, shadows: Iterable[str], create: str = "CREATE VIEW IF NOT EXISTS"
) -> str:
    """Make the DDL of view `klines_final`; `*` omits alias columns, so it adds `shadows`."""
    # No column is named, for the reason of LEGACY's `order_by`.
    columns = ", ".join(["*", *map(quoted, shadows)])
    within = quoted(database)
    return (
        f"{create} {within}.klines_final"
        f" AS SELECT {columns} FROM {within}.klines FINAL WHERE `is_closed`"
    )


def quoted(name: str) -> str:
    """Quote `name` as an identifier."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def literal(text: str) -> str:
    """Quote `text` as a string literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _definitions(columns: Mapping[str, ColumnKind], dialect: Dialect) -> str:
    parts = [f"{quoted(name)} {dialect.types[kind]}" for name, kind in columns.items()]
    parts += [
        f"{quoted(shadow)} DateTime('UTC') ALIAS toDateTime(intDiv({quoted(name)}, 1000), 'UTC')"
        for shadow, name in shadows(columns, dialect).items()
    ]
    return ", ".join(parts)


def _settings(settings: Mapping[str, int]) -> str:
    pairs = ", ".join(f"{name} = {value}" for name, value in settings.items())
    return f" SETTINGS {pairs}" if pairs else ""


def shadows(columns: Mapping[str, ColumnKind], dialect: Dialect) -> dict[str, str]:
    """Return the alias columns of integer times, with the columns they convert."""
    if not dialect.shadow_times:
        return {}
    times = {ColumnKind.TIME, ColumnKind.INSERTED_AT, ColumnKind.HEARTBEAT}
    return {f"{name}_utc": name for name, kind in columns.items() if kind in times}
