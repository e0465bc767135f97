"""A ClickHouse server as a store, through asynch on a thread of its own.

asynch takes care: it answers an insert with the first packet that comes, whichever it is, and a
connection that failed twice never works again, not even closed and reopened. So a connection is
used again only after a query that provably ended; after anything else a new object takes its place.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import (
    AsyncIterator,
    Callable,
    Collection,
    Coroutine,
    Generator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, TypeVar

import trio
from asynch.connection import Connection
from asynch.errors import (
    ClickHouseException,
    ColumnException,
    ServerException,
    TypeMismatchError,
    UnexpectedPacketFromServerError,
)
from attrs import define, field, frozen

from klineagent.errors import RowsRefused, StoreError, StoreMisconfigured, StoreUnavailable
from klineagent.kline import Kline
from klineagent.storage import queries
from klineagent.storage.asyncio_thread import CLEANUP_WITHIN_S, AsyncioThread, open_asyncio_thread
from klineagent.storage.coverage import covering, finding_runs
from klineagent.storage.location import HTTP_PORTS, NATIVE_PORTS, ServerLocation
from klineagent.storage.preparation import (
    finding,
    finding_updates,
    preparing,
    preparing_updates,
)
from klineagent.storage.refusals import refusal
from klineagent.storage.runs import Run
from klineagent.storage.schema import Layout, Rows
from klineagent.storage.store import AgentRow, Batch, Coverage, SeriesSummary, Table

WRITE_WITHIN_S = 30
LOOK_WITHIN_S = 10  # at one row
READ_WITHIN_S = 300  # a summary looks at every row there is
CONNECT_WITHIN_S = 5
SILENCE_S = 30  # even a slow query shows progress many times a second

T = TypeVar("T")
Settings = dict[str, str | int]

# A value no column can hold: asynch notices while it packs, before the server sees the rows.
_UNPACKABLE = (TypeMismatchError, ColumnException, UnicodeEncodeError)
# Beside its own errors and the socket's, asynch lets its readers' fall through.
_BROKEN = (ClickHouseException, OSError, EOFError, IndexError, ValueError, struct.error)


@define
class _Line:
    """One connection, on the asyncio thread; one query at a time."""

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
            self._idle = connection
        except ServerException as error:
            if _ended(connection):
                self._idle = connection
            raise refusal(self._server.label, error.code or 0, error.message) from error
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


@frozen
class _Lines:
    """A line for each kind of call that may overlap with the others."""

    inserts: _Line
    heartbeats: _Line
    looks: _Line
    reads: _Line
    preparing: _Line

    async def close(self) -> None:
        for line in (self.inserts, self.heartbeats, self.looks, self.reads, self.preparing):
            line.close()


@define(kw_only=True)
class ClickHouseStore:
    """See `Store`. The tables are seen to on the first call that reaches the server."""

    _server: ServerLocation
    _thread: AsyncioThread
    _lines: _Lines
    _may_create: bool
    _layout: Layout | None = None
    _attempts: count[int] = field(factory=count, init=False)
    _updates_layout: Layout | None = None
    _preparing: asyncio.Task[Layout] | None = None

    @property
    def label(self) -> str:
        """See `Store`."""
        return self._server.label

    async def prepare(self) -> None:
        """See to it that the tables are there; counts as a read.

        Raises:
            StoreError: they are not, or nobody can tell; later calls will try again.
        """
        await self._call(WRITE_WITHIN_S, self._prepared)

    async def insert(self, batch: Batch) -> None:
        """See `Store`."""
        if batch.klines:
            await self._call(WRITE_WITHIN_S, self._insert, batch)

    async def record_agent(self, row: AgentRow) -> None:
        """See `Store`."""
        await self._call(WRITE_WITHIN_S, self._record_agent, row)

    async def summary(self) -> list[SeriesSummary]:
        """See `Store`."""
        return await self._call(READ_WITHIN_S, self._summary)

    async def final_klines(
        self, venue: str, symbol: str, interval: str, *, newest: int | None = None
    ) -> list[Kline]:
        """See `Store`."""
        return await self._call(READ_WITHIN_S, self._final_klines, venue, symbol, interval, newest)

    async def final_kline(
        self, venue: str, symbol: str, interval: str, open_time: int
    ) -> Kline | None:
        """See `Store`."""
        return await self._call(
            LOOK_WITHIN_S, self._final_kline, venue, symbol, interval, open_time
        )

    async def highest_rank(
        self, venue: str, symbol: str, interval: str, open_time: int
    ) -> int | None:
        """See `Store`."""
        return await self._call(
            LOOK_WITHIN_S, self._highest_rank, venue, symbol, interval, open_time
        )

    async def coverage(
        self, venue: str, since: Mapping[str, int], symbols: Collection[str]
    ) -> list[Coverage]:
        """See `Store`."""
        return await self._call(READ_WITHIN_S, self._coverage, venue, since, symbols)

    async def stored_runs(
        self, venue: str, symbol: str, interval: str, first_ms: int, end_ms: int
    ) -> tuple[Run, ...]:
        """See `Store`."""
        return await self._call(
            READ_WITHIN_S, self._stored_runs, venue, symbol, interval, first_ms, end_ms
        )

    async def updates(
        self, venue: str, symbol: str, interval: str, *, newest: int | None = None
    ) -> list[Kline]:
        """See `Store`."""
        return await self._call(READ_WITHIN_S, self._updates, venue, symbol, interval, newest)

    async def close(self) -> None:
        """Cut all connections, whatever they are busy with."""
        await self._thread.run(self._close)

    async def _call(
        self, within_s: float, function: Callable[..., Coroutine[Any, Any, T]], *args: object
    ) -> T:
        with trio.move_on_after(within_s):
            return await self._thread.run(function, *args)
        raise StoreUnavailable(f"{self.label}: no answer within {within_s:g} s")

    # From here on: the asyncio thread.

    async def _close(self) -> None:
        if self._preparing is not None:
            self._preparing.cancel()
            await asyncio.wait([self._preparing])
        await self._lines.close()

    async def _prepared(self) -> Layout:
        if self._layout is None:
            # To bring old tables forward may take longer than whoever was first will wait.
            if self._preparing is None or self._preparing.done():
                self._preparing = asyncio.create_task(self._prepare())
            self._layout = await asyncio.shield(self._preparing)
        return self._layout

    async def _prepare(self) -> Layout:
        seeing_to_it = preparing if self._may_create else finding
        return await _carried_out(seeing_to_it(self._server.database), self._lines.preparing)

    async def _insert(self, batch: Batch) -> None:
        layout = await self._prepared()
        if batch.table is Table.UPDATES:
            if self._updates_layout is None:
                steps = preparing_updates(layout)
                self._updates_layout = await _carried_out(steps, self._lines.inserts)
            layout = self._updates_layout
        settings: Settings = dict(layout.dialect.insert_settings)
        if layout.dialect.knows_tokens:
            settings["insert_deduplication_token"] = batch.token
        await self._lines.inserts.execute(
            f"{queries.insert_klines(layout, batch.table)} VALUES",
            queries.kline_rows(layout, batch.klines),
            settings=settings,
            # Another one for each attempt: under the same id a server turns the second away for as
            # long as it waits for the rest of the first, which the network may have swallowed. Who
            # is first does not matter: the token, or FINAL, makes one of both.
            query_id=f"{batch.token}-{next(self._attempts)}",
        )

    async def _record_agent(self, row: AgentRow) -> None:
        line = self._lines.heartbeats
        layout = await self._prepared()
        await line.execute(
            f"{queries.insert_agent(layout.database)} VALUES",
            [queries.agent_values(row)],
            settings=dict(layout.dialect.insert_settings),
        )
        await line.execute(queries.collapse_agents(layout.database))

    async def _summary(self) -> list[SeriesSummary]:
        layout = await self._prepared()
        rows = await self._lines.reads.execute(queries.select_summary(layout))
        return [SeriesSummary(*row) for row in rows]

    async def _final_klines(
        self, venue: str, symbol: str, interval: str, newest: int | None
    ) -> list[Kline]:
        layout = await self._prepared()
        query = queries.select_final(layout, venue, symbol, interval, newest)
        return _klines(await self._lines.reads.execute(query))

    async def _final_kline(
        self, venue: str, symbol: str, interval: str, open_time: int
    ) -> Kline | None:
        layout = await self._prepared()
        query = queries.select_candle(layout, venue, symbol, interval, open_time)
        return next(iter(_klines(await self._lines.looks.execute(query))), None)

    async def _highest_rank(
        self, venue: str, symbol: str, interval: str, open_time: int
    ) -> int | None:
        layout = await self._prepared()
        query = queries.select_rank(layout, venue, symbol, interval, open_time)
        return queries.rank_of(await self._lines.looks.execute(query))

    async def _coverage(
        self, venue: str, since: Mapping[str, int], symbols: Collection[str]
    ) -> list[Coverage]:
        layout = await self._prepared()
        return await _carried_out(covering(layout, venue, since, symbols), self._lines.reads)

    async def _stored_runs(
        self, venue: str, symbol: str, interval: str, first_ms: int, end_ms: int
    ) -> tuple[Run, ...]:
        layout = await self._prepared()
        steps = finding_runs(layout, venue, symbol, interval, first_ms, end_ms)
        return await _carried_out(steps, self._lines.reads)

    async def _updates(
        self, venue: str, symbol: str, interval: str, newest: int | None
    ) -> list[Kline]:
        line = self._lines.reads
        layout = await _carried_out(finding_updates(await self._prepared()), line)
        if layout is None:
            return []
        query = queries.select_updates(layout, venue, symbol, interval, newest)
        return _klines(await line.execute(query))


async def _carried_out(steps: Generator[str, Rows, T], line: _Line) -> T:
    try:
        query = next(steps)
        while True:
            try:
                rows = await line.execute(query)
            except StoreError as error:
                query = steps.throw(error)
            else:
                query = steps.send(rows)
    except StopIteration as end:
        result: T = end.value
        return result


def _klines(rows: Sequence[tuple[Any, ...]]) -> list[Kline]:
    """What rows, newest first, hold."""
    klines = map(Kline._make, reversed(rows))
    # Where there is no Bool it is a number.
    return [kline._replace(is_closed=bool(kline.is_closed)) for kline in klines]


@asynccontextmanager
async def open_clickhouse(
    server: ServerLocation, *, may_create: bool = True
) -> AsyncIterator[ClickHouseStore]:
    """A store on `server`; nothing is asked of the network before it is used."""
    async with open_asyncio_thread("clickhouse") as thread:
        lines = _Lines(*(_Line(server) for _ in range(5)))
        store = ClickHouseStore(server=server, thread=thread, lines=lines, may_create=may_create)
        try:
            yield store
        finally:
            with trio.move_on_after(CLEANUP_WITHIN_S, shield=True):
                await store.close()
