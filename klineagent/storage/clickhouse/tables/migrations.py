"""Upgrades tables of earlier versions. Pure.

The tables found decide which statements run, not a version number. So it does not matter where an
earlier upgrade stopped, or that another agent upgrades at the same time, and an operator may do any
step by hand. The number in table `klineagent_schema` only says which version was here, and keeps
older ones from using tables they do not know.
"""
# ruff: noqa: S608 - every name goes through `quoted`, every text through `literal`

from __future__ import annotations

from collections.abc import Generator, Mapping

import structlog

from klineagent import __version__
from klineagent.core.errors import StoreError, StoreMisconfigured, StoreUnavailable
from klineagent.storage.clickhouse.tables.inspection import Found, looking
from klineagent.storage.clickhouse.tables.rekeying import rekeying
from klineagent.storage.clickhouse.tables.schema import (
    AGENT_COLUMNS,
    KLINE_COLUMNS,
    TABLES,
    UPDATES,
    ColumnKind,
    Dialect,
    Rows,
    create_view,
    literal,
    quoted,
)

SCHEMA_VERSION = 2
"""Version 1 is not recorded: it has no `source`, and on old servers a key with the close time."""
_VERSIONS = "klineagent_schema"

# Values of older rows in added columns. Unknown quantities are 0, as in a column added by hand.
# Names, times, prices and versions cannot be made up.
_DEFAULTS: Mapping[ColumnKind, str] = {
    ColumnKind.COUNT: "0",
    ColumnKind.TRADE_ID: "-1",
    ColumnKind.SOURCE: "",
    ColumnKind.INSERTED_AT: "",
}
_ALTERED = {"klines": KLINE_COLUMNS, UPDATES: KLINE_COLUMNS, "agents": AGENT_COLUMNS}
_TREE = "MergeTree"
# Agents that start at once may replace each other's view a few times.
_ROUNDS = 10
_QUANTITIES = {"quote_volume", "taker_buy_volume", "taker_buy_quote_volume"}

log = structlog.get_logger()


def refusing_newer(database: str, found: Found) -> Generator[str, Rows, int]:
    """Read the schema version of the tables, and refuse one newer than ours.

    Raises:
        StoreMisconfigured: a newer version made the tables; the message names it.
    """
    version, agent = 1, ""
    if _VERSIONS in found:
        for row in (yield f"SELECT `version`, `klineagent` FROM {quoted(database)}.{_VERSIONS}"):
            version, agent = max((version, agent), (int(row[0]), str(row[1])))
    if version > SCHEMA_VERSION:
        raise StoreMisconfigured(
            f"the tables of database {database} were made by klineagent {agent} (schema {version});"
            f" this is {__version__}, which knows schemas up to {SCHEMA_VERSION}:"
            " run that version or a newer one, or use another database"
        )
    return version


def bringing_forward(
    database: str, dialect: Dialect, found: Found, version: int
) -> Generator[str, Rows, Found]:
    """Upgrade the tables `found` to today's schema, and return them.

    Raises:
        StoreMisconfigured: a column cannot be added, or permission is missing; the message has the
            statements to run.
    """
    rounds = 0
    while statements := alterations(database, dialect, found):
        others: list[str] = []
        failure: StoreError | None = None
        try:
            others = yield from _of_other_engines(database)
            for statement in [] if others else statements:
                yield statement
                log.info("table_altered", database=database, statement=statement)
        except StoreError as error:  # perhaps another agent was first, or replaces the view now
            failure = error
        if others:
            raise _obstructed(database, statements, StoreMisconfigured(f"{', '.join(others)}"))
        rounds += 1
        before, found = found, (yield from looking(database))
        if found == before and (isinstance(failure, StoreMisconfigured) or rounds >= _ROUNDS):
            raise _obstructed(database, statements, failure)
    if version < SCHEMA_VERSION:
        try:
            for table in ("klines", UPDATES):
                yield from rekeying(database, table, found)
            for statement in _recording(database):
                yield statement
        except StoreMisconfigured as error:
            # Without permission to create tables, the agent works with the existing ones.
            log.warning("schema_not_recorded", database=database, error=str(error))
        found = yield from looking(database)
    return found


def alterations(database: str, dialect: Dialect, found: Found) -> list[str]:
    """List the statements that add missing columns to tables and view, in order."""
    statements = []
    for table, columns in _ALTERED.items():
        if (types := found.get(table)) is None:
            continue
        missing = {name: kind for name, kind in columns.items() if name not in types}
        if foreign := [name for name, kind in missing.items() if not _can_be_added(name, kind)]:
            raise StoreMisconfigured(
                f"table {database}.{table} has no {', '.join(sorted(foreign))}, which every version"
                " of klineagent has had: rename the table, or use another database"
            )
        statements += [
            _add_column(database, table, name, dialect.types[kind], _DEFAULTS.get(kind, "0"))
            for name, kind in missing.items()
        ]
    if TABLES["klines_final"].keys() - found.get("klines_final", {}).keys():
        statements += _replace_view(database, dialect, found["klines"])
    return statements


def _can_be_added(name: str, kind: ColumnKind) -> bool:
    return kind in _DEFAULTS or name in _QUANTITIES


def _add_column(database: str, table: str, name: str, type_: str, default: str) -> str:
    type_, space, codec = type_.partition(" CODEC")
    if "DEFAULT" not in type_:
        type_ += f" DEFAULT {default}"
    # At the end, so that all agents add it at the same place. Old servers have no IF NOT EXISTS.
    return f"ALTER TABLE {quoted(database)}.{table} ADD COLUMN {quoted(name)} {type_}{space}{codec}"


def _replace_view(database: str, dialect: Dialect, klines: Mapping[str, str]) -> list[str]:
    shadows = [name for name in klines if name.endswith("_utc")]
    if not dialect.shadow_times:
        return [create_view(database, shadows, "CREATE OR REPLACE VIEW")]
    # Old servers cannot replace a view: for a moment there is none.
    view = f"{quoted(database)}.klines_final"
    return [f"DROP TABLE IF EXISTS {view}", create_view(database, shadows)]


def _obstructed(database: str, statements: list[str], failure: StoreError | None) -> StoreError:
    if isinstance(failure, StoreUnavailable):
        return failure
    reason = f" ({failure})" if failure else ""
    statements = [*statements, *_recording(database)]
    return StoreMisconfigured(
        f"the tables of database {database} are of an earlier klineagent, and this one cannot alter"
        f" them{reason}; run these statements: {'; '.join(statements)}"
    )


def _of_other_engines(database: str) -> Generator[str, Rows, list[str]]:
    """List tables that only forward to other, unknown tables, which need the columns as well."""
    names = ", ".join(map(literal, _ALTERED))
    rows = yield (
        f"SELECT name, engine FROM system.tables WHERE database = {literal(database)}"
        f" AND name IN ({names})"
    )
    return [f"{name} is a table of engine {engine}" for name, engine in rows if _TREE not in engine]


def _recording(database: str) -> list[str]:
    table = f"{quoted(database)}.{_VERSIONS}"
    columns = "`version` UInt32, `klineagent` String, `since` DateTime DEFAULT now()"
    values = f"{SCHEMA_VERSION}, {literal(__version__)}"
    return [
        f"CREATE TABLE IF NOT EXISTS {table} ({columns}) ENGINE = MergeTree ORDER BY `version`",
        f"INSERT INTO {table} (`version`, `klineagent`) SELECT {values}",
    ]
