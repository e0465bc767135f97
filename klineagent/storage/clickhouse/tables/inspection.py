"""What there is in a database: questions that change nothing. Pure."""
# ruff: noqa: S608 - every name goes through `quoted`, every text through `literal`

from __future__ import annotations

from collections.abc import Generator, Mapping

from klineagent.storage.clickhouse.tables.schema import Dialect, Rows, dialect_of, literal

Found = Mapping[str, Mapping[str, str]]
"""The columns of each table, and their types."""


def asking_dialect() -> Generator[str, Rows, Dialect]:
    """How the server wants to be spoken to."""
    [[version]] = yield "SELECT version()"
    return dialect_of(version)


def looking(database: str) -> Generator[str, Rows, Found]:
    """Which tables and views there are."""
    rows = yield (
        f"SELECT table, name, type FROM system.columns WHERE database = {literal(database)}"
    )
    tables: dict[str, dict[str, str]] = {}
    for table, name, type_ in rows:
        tables.setdefault(table, {})[name] = type_
    return tables
