"""The server as asynch sees it, the client that klineagent uses."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from asynch.connection import Connection
from asynch.errors import ServerException

from tests.native.fixture import modern_clickhouse
from tests.native.test_server import INSERT_KLINES, KLINES, ROW

T = TypeVar("T")


def converse(url: str, body: Callable[[Connection], Awaitable[T]]) -> T:
    """Run `body` with an open connection, on an asyncio loop of its own."""

    async def main() -> T:
        async with Connection(dsn=url) as connection:
            return await body(connection)

    return asyncio.run(main())


def proto(connection: Connection) -> Any:
    """The connection's inner half, which alone knows whether a query has ended."""
    return connection._connection


async def execute(
    connection: Connection, query: str, rows: list[Any] | None = None, **settings: object
) -> list[Any]:
    """Run one query on a cursor of its own and return all rows."""
    cursor: Any
    async with connection.cursor() as cursor:
        cursor.set_settings(settings)
        await (cursor.execute(query) if rows is None else cursor.execute(query, rows))
        assert not proto(connection).is_query_executing
        return [] if rows is not None else await cursor.fetchall()


def test_klines_are_stored_and_read(url: str) -> None:
    """Rows with integer times go in and come out."""

    async def body(connection: Connection) -> list[Any]:
        await execute(connection, KLINES)
        await execute(connection, INSERT_KLINES, [ROW])
        await connection.ping()
        return await execute(
            connection,
            "SELECT symbol, interval, toUnixTimestamp64Milli(open_time), close, trades, is_closed, "
            "version FROM klines",
        )

    assert converse(url, body) == [ROW]


def test_a_token_is_stored_once(url: str) -> None:
    """The settings klineagent sends with an insert reach the engine and count."""

    async def body(connection: Connection) -> list[Any]:
        await execute(connection, KLINES)
        for token in ("a", "b", "a", "a"):
            settings = {"async_insert": 0, "send_logs_level": "none"}
            settings["insert_deduplication_token"] = token
            await execute(connection, INSERT_KLINES, [ROW], **settings)
        return await execute(connection, "SELECT count() FROM klines")

    assert converse(url, body) == [(2,)]


def test_errors_leave_the_connection_usable(url: str) -> None:
    """Errors before and after the data carry their codes, and the connection goes on."""

    async def body(connection: Connection) -> list[Any]:
        await execute(
            connection, "CREATE TABLE t (a UInt8, CONSTRAINT c CHECK a < 9) ENGINE = Memory"
        )
        for query, rows, code in (
            ("INSERT INTO nope VALUES", [(1,)], 60),
            ("INSERT INTO t VALUES", [(10,)], 469),
            ("SELECT * FROM nope", None, 60),
        ):
            with pytest.raises(ServerException) as caught:
                await execute(connection, query, rows)
            assert caught.value.code == code
        assert proto(connection).connected
        return await execute(connection, "SELECT count() FROM t")

    assert converse(url, body) == [(0,)]


def test_a_long_result_arrives_whole(url: str) -> None:
    """Results of several blocks and of none are both read to their end."""

    async def body(connection: Connection) -> tuple[int, list[Any]]:
        many = await execute(connection, "SELECT number FROM numbers(25000)", max_block_size=10_000)
        return len(many), await execute(connection, "SELECT 1 WHERE 0")

    assert converse(url, body) == (25_000, [])


def test_progress_hides_a_failed_insert(tmp_path: Path) -> None:
    """The hazard can be played: asynch takes a Progress for success, and knows no end."""

    async def body(connection: Connection) -> tuple[int, bool]:
        await execute(
            connection, "CREATE TABLE t (a UInt8, CONSTRAINT c CHECK a < 9) ENGINE = Memory"
        )
        async with connection.cursor() as cursor:
            rows: int = await cursor.execute("INSERT INTO t VALUES", [(10,)])
        return rows, proto(connection).is_query_executing

    with modern_clickhouse(tmp_path, progress_before_exception=True) as server:
        assert converse(server.url, body) == (1, True)
