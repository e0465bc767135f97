from __future__ import annotations

import pytest

from tests.native.statements import DataInsert, data_insert, literal, without_format


@pytest.mark.parametrize(
    ("text", "insert"),
    [
        ("INSERT INTO t VALUES", DataInsert("t", "", "")),
        ("insert into market.klines (a, b) values ", DataInsert("market.klines", "a, b", "")),
        ("INSERT INTO `t`(a)VALUES;", DataInsert("`t`", "a", "")),
        ("\n INSERT INTO TABLE t FORMAT Native", DataInsert("t", "", "")),
        (
            "INSERT INTO t (a)\nSETTINGS async_insert = 0, log_comment='x y'\nVALUES",
            DataInsert("t", "a", "SETTINGS async_insert = 0, log_comment='x y'"),
        ),
    ],
)
def test_an_insert_that_awaits_rows_is_recognized(text: str, insert: DataInsert) -> None:
    """An INSERT that ends before its data is taken apart."""
    assert data_insert(text) == insert


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1",
        "INSERT INTO t VALUES (1), (2)",
        "INSERT INTO t SELECT 1",
        "INSERT INTO t SELECT * FROM u FORMAT Native",
        "CREATE TABLE t (a String DEFAULT 'INSERT INTO t VALUES')",
    ],
)
def test_other_statements_await_no_rows(text: str) -> None:
    """A statement that is complete is left alone."""
    assert data_insert(text) is None


def test_the_format_is_taken_off_the_end() -> None:
    """FORMAT is the client's business, and only at the end it is a FORMAT."""
    assert without_format("SELECT 1 AS format\nFORMAT TSV;") == "SELECT 1 AS format"
    assert without_format("SELECT ' FORMAT TSV'") == "SELECT ' FORMAT TSV'"


def test_a_literal_quotes_what_would_end_it() -> None:
    """Quotes, backslashes and line ends stay inside of the literal."""
    assert literal("it's\na \\") == "'it\\'s\\na \\\\'"
