"""Tables of old servers whose key depends on the close time, copied into such with a sound key.

A candle that the exchange cut short ends when all others end, whatever its interval: where the key
says `close_time - open_time` for the interval, of four such candles one is left. A key cannot be
altered, so the rows are copied, a partition at a time, and the tables change places. Every step may
come twice, or after another agent's: what there is tells how far it has come. Pure.
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
"""How often a partition is copied that does not hold what it should."""

Inserts = Mapping[str, int]
"""The number of the newest insert into each partition. Merges keep it."""

log = structlog.get_logger()


def kept_name(table: str) -> str:
    """What `table` is called afterwards; it is the operator's to drop."""
    return f"{table}_before_2"


def _copy_name(table: str) -> str:
    return f"{table}_rekeyed"


def ending_a_swap(database: str, found: Found) -> Generator[str, Rows, Found]:
    """If an agent died while tables changed places, let the copy take the place that is free."""
    within = quoted(database)
    for table in ("klines", UPDATES):
        if table not in found and {kept_name(table), _copy_name(table)} <= found.keys():
            failure: StoreError | None = None
            try:
                yield f"RENAME TABLE {within}.{_copy_name(table)} TO {within}.{table}"
            except StoreError as error:  # the other agent lives
                failure = error
            found = yield from looking(database)
            if failure is not None and table not in found:
                raise failure
    return found


def rekeying(database: str, table: str, found: Found) -> Generator[str, Rows, None]:
    """Give `table` the key of today, if it has that of the past."""
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
    """Whether the times are DateTime64: old servers have none, others have sound keys."""
    return "open_time_utc" not in types


def _has_old_key(database: str, table: str) -> Generator[str, Rows, bool]:
    rows = yield (
        f"SELECT sorting_key FROM system.tables WHERE database = {literal(database)}"
        f" AND name = {literal(table)}"
    )
    return any(_OLD_KEY in key for [key] in rows)


def _copy_and_swap(database: str, table: str) -> Generator[str, Rows, Inserts]:
    """Let a copy take the place of `table`; returns what `table` had taken before it was copied."""
    within, copy, kept = quoted(database), _copy_name(table), kept_name(table)
    create = create_klines if table == "klines" else create_updates
    yield create(database, LEGACY, copy)
    inserts = yield from _inserts(database, table)
    log.warning("table_copied", table=f"{database}.{table}", partitions=len(inserts), done=0)
    for number, opens in enumerate(sorted(map(_opens_of, inserts)), start=1):
        yield from _copy_partition(database, table, copy, opens)
        log.info("table_copied", table=f"{database}.{table}", partitions=len(inserts), done=number)
    # One by one: a server of 2018 that renames both at once while another agent copies waits for
    # itself, for ever.
    yield f"RENAME TABLE {within}.{table} TO {within}.{kept}"
    yield f"RENAME TABLE {within}.{copy} TO {within}.{table}"
    return inserts


def _copy_partition(
    database: str, table: str, copy: str, opens: tuple[int, int]
) -> Generator[str, Rows, None]:
    # An agent that died may have left a part of the copy: what was corrected since has a new rank.
    if (yield _totals(database, table, opens)) == (yield _totals(database, copy, opens)):
        return
    for _ in range(_TRIES):
        yield _copying(database, table, copy, opens)
        if (yield from _is_copied(database, table, copy, opens)):
            return
    raise StoreUnavailable(f"table {database}.{copy} does not take all of {table}")


def _copy_late_rows(database: str, table: str, copied: Inserts) -> Generator[str, Rows, None]:
    """Copy what an earlier agent has written since each partition was copied.

    Where another agent has copied them nobody knows, so it is all of them once more.
    """
    kept = kept_name(table)
    yield f"DROP TABLE IF EXISTS {quoted(database)}.{_copy_name(table)}"
    for partition, newest in (yield from _inserts(database, kept)).items():
        if newest > copied.get(partition, -1):
            yield _copying(database, kept, table, _opens_of(partition))


def _inserts(database: str, table: str) -> Generator[str, Rows, Inserts]:
    """What each partition of `table` has taken."""
    rows = yield (
        "SELECT partition, max(max_block_number) FROM system.parts"
        f" WHERE active AND database = {literal(database)} AND table = {literal(table)}"
        " GROUP BY partition"
    )
    return {str(partition): int(newest) for partition, newest in rows}


def _opens_of(partition: str) -> tuple[int, int]:
    """The open times of a partition named `202602` or `20260201`, the end not included."""
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
    """Whether `copy` has every candle, or state, that `table` has."""
    within = quoted(database)
    [[held]] = yield f"SELECT count() FROM {within}.{copy} FINAL WHERE {_within(opens)}"
    [[known]] = yield f"SELECT count() FROM {within}.{table} FINAL WHERE {_within(opens)}"
    if held == known:
        return True
    # Rows that one key took for the same. Counting them takes memory, and is seldom needed.
    identity = ["venue", "symbol", "interval", "open_time"]
    identity += ["event_time", "version"] if UPDATES in table else []
    [[distinct]] = yield (
        f"SELECT uniqExact({', '.join(map(quoted, identity))}) FROM {within}.{table}"
        f" WHERE {_within(opens)}"
    )
    return int(held) >= int(distinct)


def _length() -> str:
    """SQL for the length that a candle of its interval should have, as `Interval.length_at`."""
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
