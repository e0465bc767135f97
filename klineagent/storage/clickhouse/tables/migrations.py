"""Tables of earlier agents, brought forward. Pure.

What there is decides what is to be done, not a number. So it does not matter where an agent died
before, or that another one does the same at this moment; and an operator may do any step by hand.
The number, in table `klineagent_schema`, says which agent was here, and keeps older ones away from
what they do not know.
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
"""1, which no table tells: without `source`, and on old servers a key made of the close time."""
_VERSIONS = "klineagent_schema"

# What rows have that were stored before the column. Quantities that nobody knows are 0, as in any
# column that is added by hand. Names, times, prices and ranks cannot be made up.
_DEFAULTS: Mapping[ColumnKind, str] = {
    ColumnKind.COUNT: "0",
    ColumnKind.TRADE_ID: "-1",
    ColumnKind.SOURCE: "",
    ColumnKind.INSERTED_AT: "",
}
_ALTERED = {"klines": KLINE_COLUMNS, UPDATES: KLINE_COLUMNS, "agents": AGENT_COLUMNS}
_TREE = "MergeTree"
# Agents that start at once may undo each other's view a few times.
_ROUNDS = 10
_QUANTITIES = {"quote_volume", "taker_buy_volume", "taker_buy_quote_volume"}

log = structlog.get_logger()


def refusing_newer(database: str, found: Found) -> Generator[str, Rows, int]:
    """The number of the tables' schema, unless a newer agent has changed them.

    Raises:
        StoreMisconfigured: one has; says which.
    """
    version, agent = 1, ""
    if _VERSIONS in found:
        for row in (yield f"SELECT `version`, `klineagent` FROM {quoted(database)}.{_VERSIONS}"):
            version, agent = max((version, agent), (int(row[0]), str(row[1])))
    if version > SCHEMA_VERSION:
        raise StoreMisconfigured(
            f"the tables of database {database} were made by klineagent {agent} (schema {version});"
            f" this is {__version__}, which knows up to schema {SCHEMA_VERSION}:"
            " run that version or a newer one, or name another database"
        )
    return version


def bringing_forward(
    database: str, dialect: Dialect, found: Found, version: int
) -> Generator[str, Rows, Found]:
    """Make of tables as they were `found` those of today; returns them.

    Raises:
        StoreMisconfigured: a column cannot be added, or may not; says what has to be run.
    """
    rounds = 0
    while statements := alterations(database, dialect, found):
        failure: StoreError | None = None
        if others := (yield from _of_other_engines(database)):
            raise _obstructed(database, statements, StoreMisconfigured(f"{', '.join(others)}"))
        for statement in statements:
            try:
                yield statement
            except StoreError as error:  # it may be that another agent was first
                failure = error
                break
            log.info("table_altered", database=database, statement=statement)
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
            # Who may make no tables works with those there are.
            log.warning("schema_not_recorded", database=database, error=str(error))
        found = yield from looking(database)
    return found


def alterations(database: str, dialect: Dialect, found: Found) -> list[str]:
    """The statements that give tables and view the columns they lack, in order."""
    statements = []
    for table, columns in _ALTERED.items():
        if (types := found.get(table)) is None:
            continue
        missing = {name: kind for name, kind in columns.items() if name not in types}
        if foreign := [name for name, kind in missing.items() if not _can_be_added(name, kind)]:
            raise StoreMisconfigured(
                f"table {database}.{table} lacks {', '.join(sorted(foreign))}, which no earlier"
                " agent left out: rename it, or name another database"
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
    # At the end, so no two agents can disagree on where. IF NOT EXISTS is unknown to old servers.
    return f"ALTER TABLE {quoted(database)}.{table} ADD COLUMN {quoted(name)} {type_}{space}{codec}"


def _replace_view(database: str, dialect: Dialect, klines: Mapping[str, str]) -> list[str]:
    shadows = [name for name in klines if name.endswith("_utc")]
    if not dialect.shadow_times:
        return [create_view(database, shadows, "CREATE OR REPLACE VIEW")]
    # Old servers know no other way: for a moment there is no view.
    view = f"{quoted(database)}.klines_final"
    return [f"DROP TABLE IF EXISTS {view}", create_view(database, shadows)]


def _obstructed(database: str, statements: list[str], failure: StoreError | None) -> StoreError:
    if isinstance(failure, StoreUnavailable):
        return failure
    reason = f" ({failure})" if failure else ""
    statements = [*statements, *_recording(database)]
    return StoreMisconfigured(
        f"the tables of database {database} are of an earlier klineagent, and this one cannot alter"
        f" them{reason}; have this run: {'; '.join(statements)}"
    )


def _of_other_engines(database: str) -> Generator[str, Rows, list[str]]:
    """Tables of ours that only lead to other tables, which lack the same and are not known here."""
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
