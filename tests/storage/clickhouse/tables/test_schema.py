from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeVar

import pytest

from klineagent.core.errors import StoreMisconfigured
from klineagent.core.kline import Kline
from klineagent.storage.clickhouse.coverage import finding_runs
from klineagent.storage.clickhouse.queries import select_final, select_updates
from klineagent.storage.clickhouse.tables.migrations import SCHEMA_VERSION
from klineagent.storage.clickhouse.tables.preparation import (
    finding,
    finding_updates,
    preparing,
    preparing_updates,
)
from klineagent.storage.clickhouse.tables.schema import (
    EMBEDDED,
    KLINE_COLUMNS,
    LEGACY,
    MODERN,
    TABLES,
    Dialect,
    Layout,
    Rows,
    create_statements,
    create_updates,
    dialect_of,
    literal,
    quoted,
)


def test_columns_are_the_fields_of_a_kline() -> None:
    """Table and kline name the same things in the same order; the server adds when it came."""
    assert (*KLINE_COLUMNS,) == (*Kline._fields, "inserted_at")


@pytest.mark.parametrize(
    ("version", "dialect"),
    [
        ("18.16.1", LEGACY),
        ("22.8.21.38", LEGACY),
        ("23.3.1", MODERN),
        ("24.10.2.80-lts", MODERN),
        ("26.9.2.1", MODERN),
        ("?", LEGACY),
    ],
)
def test_dialect_follows_the_version(version: str, dialect: Dialect) -> None:
    """Releases since 23.3 get the modern dialect, all others the oldest."""
    assert dialect_of(version) is dialect


def all_statements(dialect: Dialect) -> list[str]:
    """DDL of everything that may be created."""
    return [*create_statements("market", dialect), create_updates("market", dialect)]


@pytest.mark.parametrize("dialect", [LEGACY, MODERN, EMBEDDED])
def test_every_name_is_quoted(dialect: Dialect) -> None:
    """`interval` never stands bare, where old servers would take it for the keyword."""
    for statement in all_statements(dialect):
        assert statement.count("interval") == statement.count("`interval`")


def test_legacy_statements_ask_nothing_new() -> None:
    """The oldest dialect has no types, codecs or settings that came later."""
    text = " ".join(all_statements(LEGACY))
    for newer in ("DateTime64", "LowCardinality", "CODEC", "Bool", "SETTINGS", "now64", "TTL"):
        assert newer not in text


def test_legacy_expressions_avoid_the_keyword() -> None:
    """`interval` names a column and stands nowhere else, where 18.16 could not read it back."""
    for statements in (create_statements("market", LEGACY), [create_updates("market", LEGACY)]):
        assert " ".join(statements).count("interval") == 1


def test_embedded_tables_survive_power_loss() -> None:
    """Where the database shares our machine, inserts reach the disk before they return."""
    tables = [text for text in all_statements(EMBEDDED) if "market`.kline" in text]
    for table in (text for text in tables if "VIEW" not in text):
        assert "fsync_after_insert = 1" in table
        assert "non_replicated_deduplication_window = 10000" in table


@pytest.mark.parametrize("dialect", [MODERN, EMBEDDED])
def test_states_are_kept_for_two_weeks(dialect: Dialect) -> None:
    """Whole parts go, a day's at a time, so that nothing is written anew for it."""
    statement = create_updates("market", dialect)
    assert " PARTITION BY toYYYYMMDD(`open_time`) " in statement
    assert " TTL toDateTime(`event_time`) + INTERVAL 14 DAY DELETE " in statement
    assert "ttl_only_drop_parts = 1" in statement


@pytest.mark.parametrize("dialect", [LEGACY, MODERN, EMBEDDED])
def test_a_state_is_its_candle_its_event_time_and_its_version(dialect: Dialect) -> None:
    """The key of `klines`, drawn out; the last row of one state stays."""
    statement = create_updates("market", dialect)
    assert f" ORDER BY ({dialect.order_by}, `event_time`, `version`)" in statement
    assert " ENGINE = ReplacingMergeTree PARTITION BY " in statement


@pytest.mark.parametrize("dialect", [LEGACY, MODERN, EMBEDDED])
def test_updates_are_not_made_with_the_others(dialect: Dialect) -> None:
    """Who never keeps them never has the table."""
    assert "kline_updates" not in " ".join(create_statements("market", dialect))


def test_odd_names_stay_names() -> None:
    """Quotes and backslashes cannot end an identifier or a text."""
    assert quoted("a`b\\c") == "`a\\`b\\\\c`"
    assert literal("O'Hara\\") == "'O\\'Hara\\\\'"


def complete(time_type: str) -> Rows:
    """The columns query's answer where all tables are there."""
    return [
        ("klineagent_schema", "version", "UInt32"),
        *(
            (table, name, time_type if name.endswith("_time") else "String")
            for table, columns in TABLES.items()
            for name in columns
        ),
    ]


CURRENT: Rows = [(SCHEMA_VERSION, "0.1.0")]
"""The answer of a database that needs nothing to the question for its version."""


T = TypeVar("T")


def converse(answers: list[Rows], dialect: Dialect | None = None) -> tuple[list[str], Layout]:
    """Prepare a database that gives `answers`: what was asked, and what came of it."""
    return run_steps(answers, preparing("market", dialect))


def run_steps(answers: list[Rows], steps: Generator[str, Rows, T]) -> tuple[list[str], T]:
    """Go through `steps` with `answers`: what was asked, and what came of it."""
    asked = []
    query = next(steps)
    while True:
        asked.append(query)
        try:
            query = steps.send(answers.pop(0))
        except StopIteration as end:
            return asked, end.value


def test_complete_database_is_left_alone() -> None:
    """Where the tables exist nothing is created, so no right to create is needed."""
    answers = [[("26.9.2.1",)], complete("DateTime64(3, 'UTC')"), CURRENT]
    asked, layout = converse(answers)
    assert not [query for query in asked if "CREATE" in query]
    assert layout.dialect is MODERN
    assert layout.ticking == {"open_time", "close_time", "event_time"}


def test_missing_tables_are_created() -> None:
    """Database, tables and view are created in that order, then looked at again."""
    tables = [row for row in complete("Int64") if row[0] != "klineagent_schema"]
    created: list[Rows] = [[] for _ in create_statements("market", LEGACY)]
    asked, layout = converse([[("18.16.1",)], [], *created, tables, [], [], tables])
    made, recorded = asked[2 : 2 + len(created)], asked[-3:-1]
    assert made == create_statements("market", LEGACY)
    assert all("`klineagent_schema`" in each or "klineagent_schema" in each for each in recorded)
    assert layout == Layout(database="market", dialect=LEGACY, ticking=frozenset())


def test_tables_of_an_upgraded_server_stay_in_use() -> None:
    """A modern server with tables of its past is read as they are: times are bare numbers."""
    _, layout = converse([[("26.9.2.1",)], complete("Int64"), CURRENT])
    assert layout.dialect is MODERN
    assert "toUnixTimestamp64Milli" not in select_final(layout, "usdm", "BTCUSDT", "1m", None)


def test_known_dialect_needs_no_version() -> None:
    """Who knows the engine does not ask."""
    asked, layout = converse([complete("DateTime64(3)"), CURRENT], EMBEDDED)
    assert "SELECT version()" not in asked
    assert layout.dialect is EMBEDDED


def test_who_only_reads_makes_nothing() -> None:
    """The layout is the same; tables that are not read need not be there."""
    answers: list[Rows] = [[("26.9.2.1",)], complete("DateTime64(3, 'UTC')")]
    _, prepared = converse([*answers, CURRENT])
    assert run_steps(answers, finding("market"))[1] == prepared
    only_klines = [row for row in complete("Int64") if row[0] != "agents"]
    asked, _ = run_steps([only_klines], finding("market", LEGACY))
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("rows", "lacking"),
    [
        ([], "it has no tables"),
        ([("orders", "id", "Int64")], "no klines_final"),
        (
            [row for row in complete("Int64") if row[:2] != ("klines_final", "version")],
            "has no version",
        ),
    ],
)
def test_who_only_reads_is_told_that_there_is_nothing(rows: Rows, lacking: str) -> None:
    """Without a single statement that would make it."""
    with pytest.raises(StoreMisconfigured, match=f"market.*{lacking}"):
        run_steps([rows], finding("market", EMBEDDED))


def test_foreign_table_is_named_with_what_it_lacks() -> None:
    """A table of the same name without our columns is the operator's to move."""
    rows = [row for row in complete("Int64") if row[:2] != ("klines", "version")]
    with pytest.raises(StoreMisconfigured, match=r"market\.klines has no version"):
        converse([rows, CURRENT], LEGACY)


BARE = Layout(database="market", dialect=MODERN, ticking=frozenset())
"""A modern server with tables of its past."""


def columns_of_updates(time_type: str) -> Rows:
    """The columns query's answer where table `kline_updates` is there, too."""
    rows = complete(time_type)
    return [*rows, *(("kline_updates", *row[1:]) for row in rows if row[0] == "klines")]


def test_updates_are_made_where_there_are_none() -> None:
    """In the server's dialect, and not where they are."""
    is_there = columns_of_updates("Int64")
    without, layout = run_steps([complete("Int64"), [], is_there], preparing_updates(BARE))
    assert without[1:-1] == [create_updates("market", MODERN)]
    assert run_steps([is_there], preparing_updates(BARE)) == (without[-1:], layout)


def test_updates_are_not_made_to_be_read() -> None:
    """Where there is no table there is nothing to read."""
    assert run_steps([complete("Int64")], finding_updates(BARE))[1] is None


def test_updates_may_be_younger_than_the_other_tables() -> None:
    """Made after an upgrade they have times of the new kind, and are read so; `klines` is not."""
    _, layout = run_steps([columns_of_updates("DateTime64(3, 'UTC')")], finding_updates(BARE))
    assert layout is not None
    assert "toUnixTimestamp64Milli" in select_updates(layout, "usdm", "BTCUSDT", "1m", None)
    runs = next(finding_runs(BARE, "usdm", "BTCUSDT", "1m", 0, 60_000))
    assert "UnixTimestamp64Milli" not in runs


@pytest.mark.parametrize("steps", [preparing_updates, finding_updates])
def test_foreign_updates_are_named_with_what_they_lack(
    steps: Callable[[Layout], Generator[str, Rows, object]],
) -> None:
    """To be written to and to be read."""
    rows = [row for row in columns_of_updates("Int64") if row[:2] != ("kline_updates", "version")]
    with pytest.raises(StoreMisconfigured, match=r"market\.kline_updates has no version"):
        run_steps([rows], steps(BARE))
