"""Seeing to it that a database has our tables, or finding what there is to read. Pure.

Each function here yields SQL and takes its rows. Where a statement fails its error is thrown in:
what may fail without harm is decided here, too.
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
    """See to it that `database` has all tables, as they are today: returns the layout.

    What is complete is left as it is. So where an operator made the tables, no right to make or
    alter any is needed; and tables made on an old server stay in use after it was upgraded.

    Args:
        database: its name.
        dialect: the server's, if known; otherwise the server is asked for its version.

    Raises:
        StoreMisconfigured: a table lacks columns that cannot be added, or a newer agent made it.
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
    """As `preparing`, for those who only read: nothing is made; `klines_final` has to be there.

    Raises:
        StoreMisconfigured: there is nothing to read, or it lacks columns.
    """
    if dialect is None:
        dialect = yield from asking_dialect()
    found = yield from looking(database)
    if "klines_final" not in found:
        lacking = "it has no klines_final" if found else "there is nothing of that name"
        raise StoreMisconfigured(f"nothing has been recorded in database {database}: {lacking}")
    return _layout(database, dialect, found, "klines_final")


def preparing_updates(layout: Layout) -> Generator[str, Rows, Layout]:
    """See to it that there is a table `kline_updates`, and tell how it is written to.

    Raises:
        StoreMisconfigured: it is there and lacks columns.
    """
    found = yield from looking(layout.database)
    if UPDATES not in found:
        yield create_updates(layout.database, layout.dialect)
        found = yield from looking(layout.database)
    return _layout(layout.database, layout.dialect, found, UPDATES)


def finding_updates(layout: Layout) -> Generator[str, Rows, Layout | None]:
    """The layout for queries of table `kline_updates`, or `None` if there is no such table.

    Raises:
        StoreMisconfigured: it is there and lacks columns.
    """
    found = yield from looking(layout.database)
    if UPDATES not in found:
        return None
    # The other tables may be from before the server was upgraded, and this one from after.
    return _layout(layout.database, layout.dialect, found, UPDATES)


def _layout(database: str, dialect: Dialect, found: Found, table: str) -> Layout:
    """How `table` of `found` is read and written."""
    types = found[table]
    if missing := KLINE_COLUMNS.keys() - types.keys() - {"source"}:
        raise StoreMisconfigured(
            f"table {database}.{table} lacks {', '.join(sorted(missing))}: klineagent made no such"
            " table; rename it, or name another database"
        )
    ticking = (name for name, type_ in types.items() if type_.startswith("DateTime64"))
    return Layout(
        database=database,
        dialect=dialect,
        ticking=frozenset(ticking),
        without_source="source" not in types,
        with_lengths="length_ms" in types,
    )
