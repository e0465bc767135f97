"""Queries for what a database has; they change nothing. Pure."""
# ruff: noqa: S608 - every name goes through `quoted`, every text through `literal`

from __future__ import annotations

from collections.abc import Generator, Mapping

from klineagent.storage.clickhouse.tables.schema import Dialect, Rows, dialect_of, literal

Found = Mapping[str, Mapping[str, str]]
"""The type of each column, by table and column."""


def asking_dialect() -> Generator[str, Rows, Dialect]:
    """Find the server's dialect."""
    [[version]] = yield "SELECT version()"
    return dialect_of(version)


def looking(database: str) -> Generator[str, Rows, Found]:
    """List the tables and views of `database`, with their columns."""
    rows = yield (
        f"SELECT table, name, type FROM system.columns WHERE database = {literal(database)}"
    )
    tables: dict[str, dict[str, str]] = {}
    for table, name, type_ in rows:
        tables.setdefault(table, {})[name] = type_
    return tables
