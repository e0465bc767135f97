from __future__ import annotations

import pytest

from klineagent.errors import StoreMisconfigured
from klineagent.kline import Kline
from klineagent.storage.queries import select_final
from klineagent.storage.schema import (
    EMBEDDED,
    KLINE_COLUMNS,
    LEGACY,
    MODERN,
    TABLES,
    Dialect,
    Layout,
    Rows,
    create_statements,
    dialect_of,
    literal,
    preparing,
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
    """Releases since 23.3 are spoken to in the modern way, all others in the oldest."""
    assert dialect_of(version) is dialect


@pytest.mark.parametrize("dialect", [LEGACY, MODERN, EMBEDDED])
def test_every_name_is_quoted(dialect: Dialect) -> None:
    """`interval` never stands bare, where old servers would take it for the keyword."""
    for statement in create_statements("market", dialect):
        assert statement.count("interval") == statement.count("`interval`")


def test_legacy_statements_ask_nothing_new() -> None:
    """The oldest dialect has no types, codecs or settings that came later."""
    text = " ".join(create_statements("market", LEGACY))
    for newer in ("DateTime64", "LowCardinality", "CODEC", "Bool", "SETTINGS", "now64"):
        assert newer not in text


def test_legacy_expressions_avoid_the_keyword() -> None:
    """`interval` names a column and stands nowhere else, where 18.16 could not read it back."""
    assert " ".join(create_statements("market", LEGACY)).count("interval") == 1


def test_embedded_tables_survive_power_loss() -> None:
    """Where the database shares our machine, inserts reach the disk before they return."""
    [klines] = [
        text for text in create_statements("market", EMBEDDED) if "market`.klines (" in text
    ]
    assert "fsync_after_insert = 1" in klines
    assert "non_replicated_deduplication_window = 10000" in klines


def test_odd_names_stay_names() -> None:
    """Quotes and backslashes cannot end an identifier or a text."""
    assert quoted("a`b\\c") == "`a\\`b\\\\c`"
    assert literal("O'Hara\\") == "'O\\'Hara\\\\'"


def complete(time_type: str) -> Rows:
    """The columns query's answer where all tables are there."""
    return [
        (table, name, time_type if name.endswith("_time") else "String")
        for table, columns in TABLES.items()
        for name in columns
    ]


def converse(answers: list[Rows], dialect: Dialect | None = None) -> tuple[list[str], Layout]:
    """Prepare a database that gives `answers`: what was asked, and what came of it."""
    asked = []
    steps = preparing("market", dialect)
    query = next(steps)
    while True:
        asked.append(query)
        try:
            query = steps.send(answers.pop(0))
        except StopIteration as end:
            return asked, end.value


def test_complete_database_is_left_alone() -> None:
    """Where the tables exist nothing is created, so no right to create is needed."""
    asked, layout = converse([[("26.9.2.1",)], complete("DateTime64(3, 'UTC')")])
    assert not [query for query in asked if "CREATE" in query]
    assert layout.dialect is MODERN
    assert layout.ticking == {"open_time", "close_time", "event_time"}


def test_missing_tables_are_created() -> None:
    """Database, tables and view are created in that order, then looked at again."""
    created: list[Rows] = [[] for _ in create_statements("market", LEGACY)]
    asked, layout = converse([[("18.16.1",)], [], *created, complete("Int64")])
    assert asked[2:-1] == create_statements("market", LEGACY)
    assert layout == Layout(database="market", dialect=LEGACY, ticking=frozenset())


def test_tables_of_an_upgraded_server_stay_in_use() -> None:
    """A modern server with tables of its past is read as they are: times are bare numbers."""
    _, layout = converse([[("26.9.2.1",)], complete("Int64")])
    assert layout.dialect is MODERN
    assert "toUnixTimestamp64Milli" not in select_final(layout, "usdm", "BTCUSDT", "1m", None)


def test_known_dialect_needs_no_version() -> None:
    """Who knows the engine does not ask."""
    asked, layout = converse([complete("DateTime64(3)")], EMBEDDED)
    assert len(asked) == 1
    assert layout.dialect is EMBEDDED


def test_foreign_table_is_named_with_what_it_lacks() -> None:
    """A table of the same name without our columns is the operator's to move."""
    rows = [row for row in complete("Int64") if row[:2] != ("klines", "version")]
    with pytest.raises(StoreMisconfigured, match=r"market\.klines lacks version"):
        converse([rows], LEGACY)
