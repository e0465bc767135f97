"""Freezes the tables of one engine, and attaches them in another: steps of SQL.

See `storage/snapshots.py`.
"""
# ruff: noqa: S608 - every name goes through `quoted`, every text through `literal`

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

from klineagent.storage.clickhouse.tables.schema import Rows, literal, quoted
from klineagent.storage.snapshots import Frozen, FrozenTable, snapshot_folder


def freezing(database: str, name: str, folder: Path) -> Generator[str, Rows, Frozen]:
    """Freeze all tables of `database` in the engine's `folder`; each as of a moment of its own."""
    rows = yield (
        "SELECT name, create_table_query, engine = 'View', data_paths FROM system.tables"
        f" WHERE database = {literal(database)}"
        " AND (engine = 'View' OR engine LIKE '%MergeTree') ORDER BY engine = 'View', name"
    )
    tables = []
    for table, create, is_view, paths in rows:
        parts = None
        if not is_view:
            yield f"ALTER TABLE {quoted(database)}.{quoted(table)} FREEZE WITH NAME {literal(name)}"
            parts = str(Path(paths[0]).relative_to(folder))
        tables.append(FrozenTable(table, create, parts))
    frozen = Frozen(name, snapshot_folder(folder, name), database, tuple(tables))
    frozen.folder.mkdir(parents=True, exist_ok=True)  # of empty tables the engine makes none
    return frozen


def attaching(frozen: Frozen) -> Generator[str, Rows, None]:
    """Create the tables of a snapshot in another engine, on links to the snapshot's files.

    The engine then has the database as it was, and changes none of these files.
    """
    yield "SYSTEM STOP MERGES"
    yield f"CREATE DATABASE {quoted(frozen.database)}"
    for table in frozen.tables:
        yield table.create
        if table.parts is None:
            continue
        [[paths]] = yield (
            f"SELECT data_paths FROM system.tables WHERE database = {literal(frozen.database)}"
            f" AND name = {literal(table.name)}"
        )
        if _link(frozen.folder / table.parts, Path(paths[0]) / "detached"):
            name = f"{quoted(frozen.database)}.{quoted(table.name)}"
            yield f"ALTER TABLE {name} ATTACH PARTITION ALL"


def _link(parts: Path, detached: Path) -> int:
    """Make a folder like each in `parts`, with links to its files; return how many there are.

    Symbolic links lead to other file systems, and need no permission to write. The engine renames
    the folders, so that these cannot be links.
    """
    count = 0
    for part in parts.glob("*"):
        count += 1
        for file in part.rglob("*"):
            if not file.is_dir():
                link = detached / file.relative_to(parts)
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(file)
    return count
