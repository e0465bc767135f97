"""Copies tables of old servers, whose key depends on the close time, to tables with a correct key.

When the exchange halts, candles of all intervals end at the same time: a key that has
`close_time - open_time` for the interval keeps only one of several such candles. A key cannot be
altered, so the rows are copied, a partition at a time, and the tables are swapped. Every step may
be repeated, or follow another agent's: the tables found say how far the copy has come. Pure.
"""
# ruff: noqa: S608 - every name goes through `quoted`, every text through `literal`

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from datetime import UTC, datetime

import structlog

from klineagent.core.errors import StoreError, StoreUnavailable
from klineagent.core.interval import DAY_MS, SECOND_MS, Interval
from klineagent.storage.clickhouse.tables.inspection import Found, looking
from klineagent.storage.clickhouse.tables.schema import (
    KLINE_COLUMNS,
    LEGACY,
    UPDATES,
    Rows,
    create_klines,
    create_updates,
    literal,
    quoted,
)

_OLD_KEY = "close_time - open_time"
_TRIES = 3
"""How often a partition is copied again if rows are missing in it."""

Inserts = Mapping[str, int]
"""The number of the newest insert into each partition. Merges keep it."""

log = structlog.get_logger()


def kept_name(table: str) -> str:
    """Return the name of the old `table` after the swap; the operator may drop it."""
    return f"{table}_before_2"


def _copy_name(table: str) -> str:
    return f"{table}_rekeyed"


def ending_a_swap(database: str, found: Found) -> Generator[str, Rows, Found]:
    """Finish a swap that an agent did not complete: rename the copy to the free name."""
    within = quoted(database)
    for table in ("klines", UPDATES):
        if table not in found and {kept_name(table), _copy_name(table)} <= found.keys():
            failure: StoreError | None = None
            try:
                yield f"RENAME TABLE {within}.{_copy_name(table)} TO {within}.{table}"
            except StoreError as error:  # perhaps the other agent is alive and was faster
                failure = error
            found = yield from looking(database)
            if failure is not None and table not in found:
                raise failure
    return found


def rekeying(database: str, table: str, found: Found) -> Generator[str, Rows, None]:
    """Give `table` today's key, if it has the old one."""
    if table not in found or _is_ticking(found[table]):
        return
    copied: Inserts = {}
    try:
        if (yield from _has_old_key(database, table)):
            copied = yield from _copy_and_swap(database, table)
    except StoreError:
        if (yield from _has_old_key(database, table)):
            raise
        # Another agent was faster.
    found = yield from ending_a_swap(database, (yield from looking(database)))
    if {table, kept_name(table)} <= found.keys():
        yield from _copy_late_rows(database, table, copied)


def _is_ticking(types: Iterable[str]) -> bool:
    """Return whether the times are DateTime64: then the table is not of an old server."""
    return "open_time_utc" not in types


def _has_old_key(database: str, table: str) -> Generator[str, Rows, bool]:
    rows = yield (
        f"SELECT sorting_key FROM system.tables WHERE database = {literal(database)}"
        f" AND name = {literal(table)}"
    )
    return any(_OLD_KEY in key for [key] in rows)


def _copy_and_swap(database: str, table: str) -> Generator[str, Rows, Inserts]:
    """Replace `table` by a copy; return the newest insert of each partition before the copy."""
    within, copy, kept = quoted(database), _copy_name(table), kept_name(table)
    create = create_klines if table == "klines" else create_updates
    yield create(database, LEGACY, copy)
    inserts = yield from _inserts(database, table)
    log.warning("table_copied", table=f"{database}.{table}", partitions=len(inserts), done=0)
    for number, opens in enumerate(sorted(map(_opens_of, inserts)), start=1):
        yield from _copy_partition(database, table, copy, opens)
        log.info("table_copied", table=f"{database}.{table}", partitions=len(inserts), done=number)
    # One by one: a server of 2018 deadlocks when it renames both in one statement while another
    # agent copies.
    yield f"RENAME TABLE {within}.{table} TO {within}.{kept}"
    yield f"RENAME TABLE {within}.{copy} TO {within}.{table}"
    return inserts


def _copy_partition(
    database: str, table: str, copy: str, opens: tuple[int, int]
) -> Generator[str, Rows, None]:
    # An earlier agent may have copied a part; rows corrected since have a higher version.
    if (yield _totals(database, table, opens)) == (yield _totals(database, copy, opens)):
        return
    for _ in range(_TRIES):
        yield _copying(database, table, copy, opens)
        if (yield from _is_copied(database, table, copy, opens)):
            return
    raise StoreUnavailable(f"table {database}.{copy} misses rows of {table} after {_TRIES} copies")


def _copy_late_rows(database: str, table: str, copied: Inserts) -> Generator[str, Rows, None]:
    """Copy rows that an earlier version has written since each partition was copied.

    If another agent made the copy, its state is unknown, so all partitions are copied again.
    """
    kept = kept_name(table)
    yield f"DROP TABLE IF EXISTS {quoted(database)}.{_copy_name(table)}"
    for partition, newest in (yield from _inserts(database, kept)).items():
        if newest > copied.get(partition, -1):
            yield _copying(database, kept, table, _opens_of(partition))


def _inserts(database: str, table: str) -> Generator[str, Rows, Inserts]:
    """Find the newest insert into each partition of `table`."""
    rows = yield (
        "SELECT partition, max(max_block_number) FROM system.parts"
        f" WHERE active AND database = {literal(database)} AND table = {literal(table)}"
        " GROUP BY partition"
    )
    return {str(partition): int(newest) for partition, newest in rows}


def _opens_of(partition: str) -> tuple[int, int]:
    """Return first open time and end of a partition named like `202602` or `20260201`."""
    year, month, day = int(partition[:4]), int(partition[4:6]), partition[6:]
    first_ms = int(datetime(year, month, int(day or 1), tzinfo=UTC).timestamp()) * SECOND_MS
    return first_ms, first_ms + DAY_MS if day else Interval.MO1.next_open(first_ms)


def _within(opens: tuple[int, int]) -> str:
    return f"`open_time` >= {opens[0]:d} AND `open_time` < {opens[1]:d}"


def _copying(database: str, table: str, copy: str, opens: tuple[int, int]) -> str:
    within, columns = quoted(database), ", ".join(map(quoted, KLINE_COLUMNS))
    return (
        f"INSERT INTO {within}.{copy} ({columns}, `length_ms`)"
        f" SELECT {columns}, {_LENGTH} FROM {within}.{table} WHERE {_within(opens)}"
    )


def _totals(database: str, table: str, opens: tuple[int, int]) -> str:
    return (
        f"SELECT count(), sum(`version`) FROM {quoted(database)}.{table} FINAL"
        f" WHERE {_within(opens)}"
    )


def _is_copied(
    database: str, table: str, copy: str, opens: tuple[int, int]
) -> Generator[str, Rows, bool]:
    """Return whether `copy` has every candle, or state, that `table` has."""
    within = quoted(database)
    [[held]] = yield f"SELECT count() FROM {within}.{copy} FINAL WHERE {_within(opens)}"
    [[known]] = yield f"SELECT count() FROM {within}.{table} FINAL WHERE {_within(opens)}"
    if held == known:
        return True
    # The old key merges rows, so that counts differ. Counting distinct rows takes memory, and is
    # rarely needed.
    identity = ["venue", "symbol", "interval", "open_time"]
    identity += ["event_time", "version"] if UPDATES in table else []
    [[distinct]] = yield (
        f"SELECT uniqExact({', '.join(map(quoted, identity))}) FROM {within}.{table}"
        f" WHERE {_within(opens)}"
    )
    return int(held) >= int(distinct)


def _length() -> str:
    """Make an expression for the nominal length of a candle, as `Interval.length_at`."""
    fixed = [interval for interval in Interval if interval is not Interval.MO1]
    names = ", ".join(literal(interval.value) for interval in fixed)
    lengths = ", ".join(f"toInt64({interval.length_at(0):d})" for interval in fixed)
    month = "toStartOfMonth(toDateTime(intDiv(`open_time`, 1000), 'UTC'))"
    days = f"(toRelativeDayNum(addMonths({month}, 1)) - toRelativeDayNum({month}))"
    return (
        f"if(`interval` = '1M', toInt64({days}) * {DAY_MS:d},"
        f" transform(`interval`, [{names}], [{lengths}], `close_time` - `open_time` + 1))"
    )


_LENGTH = _length()
