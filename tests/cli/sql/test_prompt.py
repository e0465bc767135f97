"""The prompt of `klineagent sql`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from klineagent.cli.sql.prompt import prompt
from klineagent.core.errors import QueryFailed


@pytest.fixture
def type_lines(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Types lines; an exception is raised in place of one. Returns the queries that were asked."""

    def type_(*lines: str | BaseException) -> list[str]:
        typed = iter(lines)
        queries: list[str] = []

        def read(_: str) -> str:
            line = next(typed)
            if isinstance(line, BaseException):
                raise line
            return line

        def answer(query: str) -> None:
            queries.append(query)
            if query == "wrong":
                raise QueryFailed("it is wrong")
            if query == "long":
                raise KeyboardInterrupt

        monkeypatch.setattr("builtins.input", read)
        is_refresh = prompt(answer)
        return [*queries, "refresh"] if is_refresh else queries

    return type_


def test_each_line_is_a_query(type_lines: Callable[..., list[str]]) -> None:
    """With or without a semicolon; one may go on over lines."""
    assert type_lines("SELECT 1;", "", "SELECT \\", "2", "exit") == ["SELECT 1", "SELECT \n2"]


@pytest.mark.parametrize("end", ["exit", "quit", "EXIT;", "\\q", EOFError()])
def test_it_can_be_left(type_lines: Callable[..., list[str]], end: str | EOFError) -> None:
    """By a word, or the end of the input."""
    assert type_lines(end) == []


def test_refreshing_leaves_it_for_a_moment(type_lines: Callable[..., list[str]]) -> None:
    """Its caller takes a new snapshot and asks again."""
    assert type_lines("SELECT 1", "refresh;") == ["SELECT 1", "refresh"]


def test_an_error_is_told_and_it_goes_on(
    type_lines: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """As it does after Ctrl-C, in a query and without one."""
    queries = type_lines("wrong", "long", KeyboardInterrupt(), "SELECT 1", "exit")
    assert queries == ["wrong", "long", "SELECT 1"]
    told = capsys.readouterr().err
    assert "it is wrong" in told
    assert "ended by Ctrl-C" in told
