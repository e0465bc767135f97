"""One connection to a ClickHouse server, on the asyncio thread.

asynch takes the first packet after an insert, whichever it is, for the answer, and a connection
that failed twice never works again, not even after closing and reopening. So a connection is reused
only after a query that provably ended; after anything else a new object replaces it.
"""

from __future__ import annotations

import struct
from collections.abc import Generator, Sequence
from typing import Any, TypeVar

from asynch.connection import Connection
from asynch.errors import (
    ClickHouseException,
    ColumnException,
    ServerException,
    TypeMismatchError,
    UnexpectedPacketFromServerError,
)
from attrs import define

from klineagent.core.errors import RowsRefused, StoreError, StoreMisconfigured, StoreUnavailable
from klineagent.storage.clickhouse.errors import error_of
from klineagent.storage.clickhouse.tables.schema import Rows
from klineagent.storage.url import HTTP_PORTS, NATIVE_PORTS, ServerLocation

CONNECT_WITHIN_S = 5
SILENCE_S = 30  # even a slow query shows progress many times a second

T = TypeVar("T")
Settings = dict[str, str | int]

# A value that does not fit its column: asynch fails while packing, before the server sees the rows.
_UNPACKABLE = (TypeMismatchError, ColumnException, UnicodeEncodeError)
# asynch raises errors of its own, of the socket, and those of its readers.
_BROKEN = (ClickHouseException, OSError, EOFError, IndexError, ValueError, struct.error)


@define
class ServerConnection:
    """A reusable connection, on the asyncio thread; overlapping queries open further ones."""

    _server: ServerLocation
    _idle: Connection | None = None
    """The connection, while it is known to be in order."""

    async def execute(
        self,
        query: str,
        rows: Sequence[Sequence[object]] | None = None,
        *,
        settings: Settings | None = None,
        query_id: str = "",
    ) -> list[tuple[Any, ...]]:
        """Run `query`, with `rows` if it is an INSERT, and return its rows; errors as of `ask`."""
        _, answer = await self.ask(query, rows, settings=settings, query_id=query_id)
        return answer

    async def ask(
        self,
        query: str,
        rows: Sequence[Sequence[object]] | None = None,
        *,
        settings: Settings | None = None,
        query_id: str = "",
    ) -> tuple[list[tuple[str, str]], list[tuple[Any, ...]]]:
        """Run `query`, and return its columns, by name and type, and its rows.

        Raises:
            StoreError: the query failed; `StoreUnavailable` also if its outcome is unknown.
        """
        connection, self._idle = self._idle or self._new(), None
        try:
            cursor: Any = connection.cursor()  # half of its methods have no types
            async with cursor:
                cursor.set_settings(settings or {})
                cursor.set_query_id(query_id)
                await cursor.execute(query, rows)
                answer: list[tuple[Any, ...]] = await cursor.fetchall()
                columns = [(name, type_) for name, type_, *_ in cursor.description or ()]
            if not _ended(connection):
                raise StoreUnavailable(f"{self._server.label}: the outcome of a query is unknown")
            self._keep(connection)
        except ServerException as error:
            if _ended(connection):
                self._keep(connection)
            raise error_of(self._server.label, error.code or 0, error.message) from error
        except _UNPACKABLE as error:
            raise RowsRefused(f"a value does not fit its column: {error}") from error
        except _BROKEN as error:
            raise _failure(self._server, error) from error
        finally:
            if self._idle is not connection:
                _cut(connection)
        return columns, answer

    def close(self) -> None:
        """Abort the connection, if there is one."""
        if self._idle is not None:
            _cut(self._idle)
            self._idle = None

    def _keep(self, connection: Connection) -> None:
        """Keep the connection for reuse, unless an overlapping query has left one already."""
        if self._idle is None:
            self._idle = connection

    def _new(self) -> Connection:
        return Connection(
            host=self._server.host,
            port=self._server.port,
            user=self._server.user,
            password=self._server.password,
            # Ours may not exist yet, and then the server would refuse the connection.
            database="",
            secure=self._server.secure,
            ca_certs=self._server.ca_file,
            connect_timeout=CONNECT_WITHIN_S,
            sync_request_timeout=CONNECT_WITHIN_S,
            send_receive_timeout=SILENCE_S,
        )


def _ended(connection: Connection) -> bool:
    """Return whether the server ended the last query: only then its outcome is known."""
    return not _protocol(connection).is_query_executing


def _cut(connection: Connection) -> None:
    """Close the socket at once; a task that reads from it gets an error."""
    writer = _protocol(connection).writer
    if writer is not None:
        writer.writer.transport.abort()


def _protocol(connection: Connection) -> Any:
    # The public API neither says whether a query ended nor closes without waiting for the peer.
    return connection._connection  # noqa: SLF001


def _failure(server: ServerLocation, error: BaseException) -> StoreError:
    wanted = f"use the port of the native protocol, usually {NATIVE_PORTS}"
    # Only the text of the error says that asynch waited for the server's first packet; a strange
    # packet later may be an accident.
    if isinstance(error, UnexpectedPacketFromServerError) and "expected Hello" in error.message:
        return StoreMisconfigured(
            f"{server.label}: port {server.port} speaks HTTP or TLS, or is not ClickHouse's;"
            f" {wanted}"
        )
    hint = ""
    if server.port in HTTP_PORTS:
        hint = f"; {server.port} usually is ClickHouse's port for HTTP: {wanted}"
    elif isinstance(error.__cause__, TimeoutError):
        # An HTTP server would wait for a request for ever.
        hint = f"; if a server listens at port {server.port}, {wanted}"
    return StoreUnavailable(f"{server.label}: {_reason(error)}{hint}")


def _reason(error: BaseException) -> str:
    # asynch's text names the hosts it could not reach; the reason is the cause.
    cause = error.__cause__
    because = f" ({str(cause) or type(cause).__name__})" if cause else ""
    text = error.message if isinstance(error, ClickHouseException) else str(error)
    return f"{text or type(error).__name__}{because}"


async def run_steps(steps: Generator[str, Rows, T], connection: ServerConnection) -> T:
    """Run the queries that `steps` yields, throw failures into it, and return its result."""
    try:
        query = next(steps)
        while True:
            try:
                rows = await connection.execute(query)
            except StoreError as error:
                query = steps.throw(error)
            else:
                query = steps.send(rows)
    except StopIteration as end:
        result: T = end.value
        return result
