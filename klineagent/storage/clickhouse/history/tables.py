"""Tables `imports` and `corrections` as SQL. Pure."""
# ruff: noqa: S608 - every name goes through `quoted`, every text through `literal`

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from attrs import asdict, fields

from klineagent.core.errors import StoreMisconfigured
from klineagent.core.interval import DAY_MS, SECOND_MS
from klineagent.storage.clickhouse.queries import milliseconds, moment
from klineagent.storage.clickhouse.tables.inspection import looking
from klineagent.storage.clickhouse.tables.schema import (
    ColumnKind,
    Dialect,
    Layout,
    Rows,
    literal,
    quoted,
)
from klineagent.storage.digests import digest_sql
from klineagent.storage.history import FileState, ImportRecord
from klineagent.storage.store import Table

IMPORTS = "imports"
CORRECTIONS = "corrections"
_TEXT, _SIZE, _TIME = "String", "UInt64", "time"
_IMPORTS: Mapping[str, str] = {
    "path": _TEXT,
    "venue": _TEXT,
    "symbol": _TEXT,
    "interval": _TEXT,
    "state": _TEXT,
    "reason": _TEXT,
    "sha256": _TEXT,
    "etag": _TEXT,
    "published": _TIME,
    "bytes": _SIZE,
    "rows": _SIZE,
    "duplicates": _SIZE,
    "off_grid": _SIZE,
    "first_open": _TIME,
    "last_open": _TIME,
    "first_day": _TIME,
    "day_rows": "Array(UInt32)",
    "day_digests": "Array(UInt64)",
    # The version of a row: old servers want an unsigned number, as in table `agents`.
    "imported_at": "version",
}
_CORRECTIONS: Mapping[str, str] = {
    "found_at": _TIME,
    "venue": _TEXT,
    "symbol": _TEXT,
    "interval": _TEXT,
    "open_time": _TIME,
    "verdict": _TEXT,
    "reason": _TEXT,
    "stored": _TEXT,
    "archive": _TEXT,
    "rest": _TEXT,
    "old_version": _SIZE,
    "new_version": _SIZE,
    "sha256": _TEXT,
}
_ENGINES = {
    # A path names venue, symbol and interval; on old servers no key may hold `interval`.
    IMPORTS: (_IMPORTS, "ReplacingMergeTree(`imported_at`) ORDER BY `path`"),
    # Nothing merges a correction away.
    CORRECTIONS: (_CORRECTIONS, "MergeTree ORDER BY (`found_at`, `symbol`, `open_time`)"),
}
_FILE_FIELDS = ["path", "venue", "symbol", "interval", "state", "first_day", "day_rows"]
_FIELDS = [each.name for each in fields(ImportRecord)]


def preparing_history(layout: Layout) -> Generator[str, Rows, None]:
    """Create tables `imports` and `corrections` if needed.

    Raises:
        StoreMisconfigured: a table of such a name has not all columns.
    """
    found = yield from looking(layout.database)
    for table, (columns, engine) in _ENGINES.items():
        if table not in found:
            yield _create(layout, table, columns, engine)
        elif missing := columns.keys() - found[table].keys():
            raise StoreMisconfigured(
                f"table {layout.database}.{table} has no {', '.join(sorted(missing))}: klineagent"
                " did not make it; rename the table, or use another database"
            )


def finding_history(layout: Layout) -> Generator[str, Rows, bool]:
    """Find out whether there is a table `imports`; create nothing."""
    found = yield from looking(layout.database)
    return IMPORTS in found


def _create(layout: Layout, table: str, columns: Mapping[str, str], engine: str) -> str:
    types = (f"{quoted(name)} {_type(kind, layout.dialect)}" for name, kind in columns.items())
    name = f"{quoted(layout.database)}.{table}"
    return f"CREATE TABLE IF NOT EXISTS {name} ({', '.join(types)}) ENGINE = {engine}"


def _type(kind: str, dialect: Dialect) -> str:
    if kind == _TIME:
        return dialect.types[ColumnKind.TIME]
    return dialect.types[ColumnKind.HEARTBEAT] if kind == "version" else kind


def select_records(
    layout: Layout, venue: str, symbols: Collection[str], intervals: Collection[str]
) -> str:
    """Make a query for the fields of `ImportRecord`, a row for each path, by path."""
    among = ", ".join(map(literal, sorted(symbols)))
    lengths = ", ".join(map(literal, sorted(intervals)))
    columns = ", ".join(_read(name, layout) for name in _FIELDS)
    return (
        f"SELECT {columns} FROM {quoted(layout.database)}.{IMPORTS} FINAL"
        f" WHERE `venue` = {literal(venue)} AND `symbol` IN ({among})"
        f" AND `interval` IN ({lengths}) ORDER BY `path`"
    )


def select_newest_files(layout: Layout, most: int) -> str:
    """Make a query for `file_of`: a row for each stored file, those of the newest days first."""
    columns = ", ".join(_read(name, layout) for name in _FILE_FIELDS)
    states = ", ".join(literal(each.value) for each in (FileState.IMPORTED, FileState.SHORT))
    return (
        f"SELECT {columns} FROM {quoted(layout.database)}.{IMPORTS} FINAL"
        f" WHERE `state` IN ({states}) ORDER BY `first_day` DESC LIMIT {most:d}"
    )


def _read(name: str, layout: Layout) -> str:
    is_time = _IMPORTS[name] in {_TIME, "version"} and not layout.dialect.shadow_times
    return f"toUnixTimestamp64Milli({quoted(name)})" if is_time else quoted(name)


def select_digests(
    layout: Layout,
    venue: str,
    symbols: Collection[str],
    interval: str,
    bounds: tuple[int, int],
) -> str:
    """Make a query for the fields of `DayDigest`."""
    first_ms, end_ms = bounds
    opened = milliseconds("open_time", layout)
    among = ", ".join(map(literal, sorted(symbols)))
    # Not through the view, which takes longer, and with conditions that bound what is read.
    return (
        f"SELECT `symbol`, intDiv({opened}, {DAY_MS}) AS `day`, toUInt64(count()),"
        f" sum({digest_sql(opened)}) FROM {quoted(layout.database)}.{Table.KLINES.value} FINAL"
        f" WHERE `venue` = {literal(venue)} AND `symbol` IN ({among})"
        f" AND `interval` = {literal(interval)}"
        f" AND `open_time` >= {moment('open_time', first_ms, layout)}"
        f" AND `open_time` < {moment('open_time', end_ms, layout)} AND `is_closed`"
        " GROUP BY `symbol`, `day`"
    )


def record_of(row: Sequence[Any]) -> ImportRecord:
    """Convert a row of `select_records`."""
    return ImportRecord(**dict(zip(_FIELDS, row, strict=True)))


def file_of(row: Sequence[Any]) -> ImportRecord:
    """Convert a row of `select_newest_files`."""
    return ImportRecord(**dict(zip(_FILE_FIELDS, row, strict=True)))


def insert_records(layout: Layout) -> str:
    """Make the INSERT to be sent with `record_values`."""
    return f"INSERT INTO {quoted(layout.database)}.{IMPORTS} ({', '.join(map(quoted, _FIELDS))})"


def record_values(record: ImportRecord) -> tuple[object, ...]:
    """Convert `record` to the values of an INSERT."""
    values = asdict(record, recurse=False)
    values["state"] = record.state.value
    values["day_rows"], values["day_digests"] = [*record.day_rows], [*record.day_digests]
    return tuple(values[name] for name in _FIELDS)


def written(record: ImportRecord) -> str:
    """Write the values of an INSERT into modern tables as text."""
    pairs = zip(_FIELDS, record_values(record), strict=True)
    return f"({', '.join(_written(name, value) for name, value in pairs)})"


def _written(name: str, value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(str, value))}]"
    if isinstance(value, str):
        return literal(value)
    if _IMPORTS[name] not in {_TIME, "version"}:
        return str(value)
    # A number would be milliseconds only if it has many digits, and a function takes a millisecond.
    moment = datetime.fromtimestamp(int(str(value)) / SECOND_MS, UTC)
    return f"'{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03}'"
