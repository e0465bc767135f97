"""Prepares the tables of a database, or finds those to read. Pure.

Each function here yields SQL and receives its rows; a failure is thrown into it, so that it decides
which failures are harmless.
"""

from __future__ import annotations

from collections.abc import Generator

from attrs import evolve

from klineagent.core.errors import StoreMisconfigured
from klineagent.storage.clickhouse.tables.inspection import Found, asking_dialect, looking
from klineagent.storage.clickhouse.tables.migrations import bringing_forward, refusing_newer
from klineagent.storage.clickhouse.tables.rekeying import ending_a_swap
from klineagent.storage.clickhouse.tables.schema import (
    KLINE_COLUMNS,
    TABLES,
    UPDATES,
    Dialect,
    Layout,
    Rows,
    create_statements,
    create_updates,
)


def preparing(database: str, dialect: Dialect | None = None) -> Generator[str, Rows, Layout]:
    """Create or upgrade all tables of `database`, and return their layout.

    Complete tables are left alone. So if an operator made them, no permission to create or alter
    tables is needed; and tables made on an old server stay in use after its upgrade.

    Args:
        database: the database's name.
        dialect: the server's dialect, if known; otherwise its version is queried.

    Raises:
        StoreMisconfigured: a table has not all columns and they cannot be added, or a newer version
            made it.
    """
    if dialect is None:
        dialect = yield from asking_dialect()
    found = yield from looking(database)
    version = yield from refusing_newer(database, found)
    found = yield from ending_a_swap(database, found)
    if not TABLES.keys() <= found.keys():
        for statement in create_statements(database, dialect):  # noqa: UP028 - lists take no rows
            yield statement
        found = yield from looking(database)
    found = yield from bringing_forward(database, dialect, found, version)
    layout = _layout(database, dialect, found, "klines_final")
    return evolve(layout, with_lengths="length_ms" in found["klines"])


def finding(database: str, dialect: Dialect | None = None) -> Generator[str, Rows, Layout]:
    """Find the layout of `klines_final` for reading; create nothing.

    Raises:
        StoreMisconfigured: there is no `klines_final`, or it has not all columns.
    """
    if dialect is None:
        dialect = yield from asking_dialect()
    found = yield from looking(database)
    if "klines_final" not in found:
        reason = "it has no klines_final" if found else "it has no tables"
        raise StoreMisconfigured(f"nothing has been recorded in database {database}: {reason}")
    return _layout(database, dialect, found, "klines_final")


def preparing_updates(layout: Layout) -> Generator[str, Rows, Layout]:
    """Create table `kline_updates` if needed, and return its layout.

    Raises:
        StoreMisconfigured: the table exists, but has not all columns.
    """
    found = yield from looking(layout.database)
    if UPDATES not in found:
        yield create_updates(layout.database, layout.dialect)
        found = yield from looking(layout.database)
    return _layout(layout.database, layout.dialect, found, UPDATES)


def finding_updates(layout: Layout) -> Generator[str, Rows, Layout | None]:
    """Find the layout of table `kline_updates`; None if there is no such table.

    Raises:
        StoreMisconfigured: the table has not all columns.
    """
    found = yield from looking(layout.database)
    if UPDATES not in found:
        return None
    # A layout of its own: the server may have been upgraded before this table was created.
    return _layout(layout.database, layout.dialect, found, UPDATES)


def _layout(database: str, dialect: Dialect, found: Found, table: str) -> Layout:
    """Return how `table` of `found` is read and written."""
    types = found[table]
    if missing := KLINE_COLUMNS.keys() - types.keys() - {"source"}:
        raise StoreMisconfigured(
            f"table {database}.{table} has no {', '.join(sorted(missing))}: klineagent did not make"
            " it; rename the table, or use another database"
        )
    ticking = (name for name, type_ in types.items() if type_.startswith("DateTime64"))
    return Layout(
        database=database,
        dialect=dialect,
        ticking=frozenset(ticking),
        without_source="source" not in types,
        with_lengths="length_ms" in types,
    )
