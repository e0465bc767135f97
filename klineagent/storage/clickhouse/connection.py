"""One connection to a ClickHouse server, on the asyncio thread.

asynch takes care: it answers an insert with the first packet that comes, whichever it is, and a
connection that failed twice never works again, not even closed and reopened. So a connection is
used again only after a query that provably ended; after anything else a new object takes its place.
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

# A value no column can hold: asynch notices while it packs, before the server sees the rows.
_UNPACKABLE = (TypeMismatchError, ColumnException, UnicodeEncodeError)
# Beside its own errors and the socket's, asynch lets its readers' fall through.
_BROKEN = (ClickHouseException, OSError, EOFError, IndexError, ValueError, struct.error)


@define
class ServerConnection:
    """One connection, on the asyncio thread; queries that overlap have one each meanwhile."""

    _server: ServerLocation
    _idle: Connection | None = None
    """The connection, while it is known to be sound."""

    async def execute(
        self,
        query: str,
        rows: Sequence[Sequence[object]] | None = None,
        *,
        settings: Settings | None = None,
        query_id: str = "",
    ) -> list[tuple[Any, ...]]:
        """Run `query`, with `rows` if it is an INSERT.

        Raises:
            StoreError: as it fits; `StoreUnavailable` also where the outcome is unknown.
        """
        connection, self._idle = self._idle or self._new(), None
        try:
            cursor: Any = connection.cursor()  # half of its methods have no types
            async with cursor:
                cursor.set_settings(settings or {})
                cursor.set_query_id(query_id)
                await cursor.execute(query, rows)
                answer: list[tuple[Any, ...]] = await cursor.fetchall()
            if not _ended(connection):
                raise StoreUnavailable(f"{self._server.label}: nobody can tell how a query ended")
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
        return answer

    def close(self) -> None:
        """Cut the connection, if there is one."""
        if self._idle is not None:
            _cut(self._idle)
            self._idle = None

    def _keep(self, connection: Connection) -> None:
        """Use it again, unless a query that ran beside its own has left one already."""
        if self._idle is None:
            self._idle = connection

    def _new(self) -> Connection:
        return Connection(
            host=self._server.host,
            port=self._server.port,
            user=self._server.user,
            password=self._server.password,
            # Ours may not exist yet, and a server turns away who asks for what does not exist.
            database="",
            secure=self._server.secure,
            ca_certs=self._server.ca_file,
            connect_timeout=CONNECT_WITHIN_S,
            sync_request_timeout=CONNECT_WITHIN_S,
            send_receive_timeout=SILENCE_S,
        )


def _ended(connection: Connection) -> bool:
    """Whether the server said that the last query is over: only then its outcome is known."""
    return not _protocol(connection).is_query_executing


def _cut(connection: Connection) -> None:
    """Close the socket at once; who reads from it gets an error."""
    writer = _protocol(connection).writer
    if writer is not None:
        writer.writer.transport.abort()


def _protocol(connection: Connection) -> Any:
    # The public half neither tells whether a query ended nor closes without waiting for the peer.
    return connection._connection  # noqa: SLF001


def _failure(server: ServerLocation, error: BaseException) -> StoreError:
    wanted = f"the port of the native protocol is wanted, usually {NATIVE_PORTS}"
    # asynch tells in words alone what it waited for; later a strange packet may be an accident.
    if isinstance(error, UnexpectedPacketFromServerError) and "expected Hello" in error.message:
        return StoreMisconfigured(
            f"{server.label}: what answers at port {server.port} is HTTP, or TLS, or no ClickHouse;"
            f" {wanted}"
        )
    hint = ""
    if server.port in HTTP_PORTS:
        hint = f"; {server.port} usually is ClickHouse's for HTTP, and {wanted}"
    elif isinstance(error.__cause__, TimeoutError):
        # A server for HTTP waits for us to speak as HTTP does, for ever.
        hint = f"; if something does listen at port {server.port}, {wanted}"
    return StoreUnavailable(f"{server.label}: {_reason(error)}{hint}")


def _reason(error: BaseException) -> str:
    # asynch says which hosts it could not reach, and keeps the reason as the cause.
    cause = error.__cause__
    because = f" ({str(cause) or type(cause).__name__})" if cause else ""
    text = error.message if isinstance(error, ClickHouseException) else str(error)
    return f"{text or type(error).__name__}{because}"


async def run_steps(steps: Generator[str, Rows, T], connection: ServerConnection) -> T:
    """What `steps` come to; they are told which of their queries failed."""
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
