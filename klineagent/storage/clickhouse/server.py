"""The store on a ClickHouse server, through asynch on a thread of its own."""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncIterator,
    Callable,
    Collection,
    Coroutine,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, TypeVar

import trio
from attrs import astuple, define, field, fields, frozen

from klineagent.core.errors import StoreUnavailable
from klineagent.core.interval import Run
from klineagent.core.kline import Kline
from klineagent.storage.clickhouse import queries
from klineagent.storage.clickhouse.asyncio_thread import (
    CLEANUP_WITHIN_S,
    AsyncioThread,
    open_asyncio_thread,
)
from klineagent.storage.clickhouse.connection import ServerConnection, Settings, run_steps
from klineagent.storage.clickhouse.coverage import covering, finding_runs
from klineagent.storage.clickhouse.history.server import ServerHistory
from klineagent.storage.clickhouse.tables.preparation import (
    finding,
    finding_updates,
    preparing,
    preparing_updates,
)
from klineagent.storage.clickhouse.tables.schema import Layout
from klineagent.storage.reader import READS_AT_ONCE, KlineRange, Reader, Shared
from klineagent.storage.store import AgentRow, Batch, SeriesRuns, SeriesSummary, Table
from klineagent.storage.url import ServerLocation

WRITE_WITHIN_S = 30
LOOK_WITHIN_S = 10  # for one row
CHUNK_WITHIN_S = 30
READ_WITHIN_S = 300  # a summary reads all rows

T = TypeVar("T")


@frozen
class _Connections:
    """A connection for each kind of call that may overlap with the others."""

    inserts: ServerConnection
    heartbeats: ServerConnection
    looks: ServerConnection
    reads: ServerConnection
    audits: ServerConnection
    imports: ServerConnection
    preparing: ServerConnection

    async def close(self) -> None:
        for connection in astuple(self, recurse=False):
            connection.close()


@define(kw_only=True)
class ClickHouseStore:
    """See `Store`. The first call that reaches the server prepares the tables."""

    _server: ServerLocation
    _thread: AsyncioThread
    _connections: _Connections
    _readers: tuple[ServerConnection, ...]
    _may_create: bool
    reader: Reader = field(init=False)
    snapshots: None = field(default=None, init=False)
    history: ServerHistory = field(init=False)
    _shared: Shared[ServerConnection] = field(init=False)
    _layout: Layout | None = None
    _attempts: count[int] = field(factory=count, init=False)
    _updates_layout: Layout | None = None
    _preparing: asyncio.Task[Layout] | None = None

    def __attrs_post_init__(self) -> None:
        self.reader = Reader(self._read_range)
        self._shared = Shared([*self._readers])
        self.history = ServerHistory(
            call=self._call, connection=self._connections.imports, prepared=self._prepared
        )

    @property
    def label(self) -> str:
        """See `Store`."""
        return self._server.label

    async def prepare(self) -> None:
        """Prepare the tables; counts as a read.

        Raises:
            StoreError: the tables could not be prepared; later calls try again.
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

    async def highest_ranks(
        self, venue: str, symbol: str, interval: str, first_ms: int, end_ms: int
    ) -> Mapping[int, int]:
        """See `Store`."""
        return await self._call(
            READ_WITHIN_S, self._highest_ranks, venue, symbol, interval, first_ms, end_ms
        )

    async def coverage(
        self, venue: str, since: Mapping[str, int], symbols: Collection[str]
    ) -> list[SeriesRuns]:
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

    async def _read_range(self, wanted: KlineRange, most: int) -> list[Kline]:
        async with self._shared.taken() as connection:
            return await self._call(CHUNK_WITHIN_S, self._query_range, connection, wanted, most)

    async def close(self) -> None:
        """Abort all connections and their queries."""
        await self._thread.run(self._close)

    async def _call(
        self, within_s: float, function: Callable[..., Coroutine[Any, Any, T]], *args: object
    ) -> T:
        with trio.move_on_after(within_s):
            return await self._thread.run(function, *args)
        raise StoreUnavailable(f"{self.label}: no answer within {within_s:g} s")

    # The methods below run on the asyncio thread.

    async def _close(self) -> None:
        if self._preparing is not None:
            self._preparing.cancel()
            await asyncio.wait([self._preparing])
        await self._connections.close()
        for connection in self._readers:
            connection.close()

    async def _prepared(self) -> Layout:
        if self._layout is None:
            # Upgrading old tables may take longer than the first caller waits.
            if self._preparing is None or self._preparing.done():
                self._preparing = asyncio.create_task(self._prepare())
            self._layout = await asyncio.shield(self._preparing)
        return self._layout

    async def _prepare(self) -> Layout:
        steps = preparing if self._may_create else finding
        return await run_steps(steps(self._server.database), self._connections.preparing)

    async def _insert(self, batch: Batch) -> None:
        layout = await self._prepared()
        if batch.table is Table.UPDATES:
            if self._updates_layout is None:
                steps = preparing_updates(layout)
                self._updates_layout = await run_steps(steps, self._connections.inserts)
            layout = self._updates_layout
        settings: Settings = dict(layout.dialect.insert_settings)
        if layout.dialect.knows_tokens:
            settings["insert_deduplication_token"] = batch.token
        await self._connections.inserts.execute(
            f"{queries.insert_klines(layout, batch.table)} VALUES",
            queries.kline_rows(layout, batch.klines),
            settings=settings,
            # A new id for each attempt: a server refuses a second query under the same id while it
            # waits for the rest of the first, which the network may have lost. Which one arrives
            # first does not matter: the token, or FINAL, merges them.
            query_id=f"{batch.token}-{next(self._attempts)}",
        )

    async def _record_agent(self, row: AgentRow) -> None:
        connection = self._connections.heartbeats
        layout = await self._prepared()
        await connection.execute(
            f"{queries.insert_agent(layout.database)} VALUES",
            [queries.agent_values(row)],
            settings=dict(layout.dialect.insert_settings),
        )
        await connection.execute(queries.collapse_agents(layout.database))

    async def _summary(self) -> list[SeriesSummary]:
        layout = await self._prepared()
        rows = await self._connections.reads.execute(queries.select_summary(layout))
        return [SeriesSummary(*row) for row in rows]

    async def _final_klines(
        self, venue: str, symbol: str, interval: str, newest: int | None
    ) -> list[Kline]:
        layout = await self._prepared()
        query = queries.select_final(layout, venue, symbol, interval, newest)
        return _klines(await self._connections.reads.execute(query))[::-1]

    async def _query_range(
        self, connection: ServerConnection, wanted: KlineRange, most: int
    ) -> list[Kline]:
        layout = await self._prepared()
        query = queries.select_range(layout, wanted, most)
        return _klines(await connection.execute(query))

    async def _final_kline(
        self, venue: str, symbol: str, interval: str, open_time: int
    ) -> Kline | None:
        layout = await self._prepared()
        query = queries.select_candle(layout, venue, symbol, interval, open_time)
        return next(iter(_klines(await self._connections.looks.execute(query))), None)

    async def _highest_ranks(
        self, venue: str, symbol: str, interval: str, first_ms: int, end_ms: int
    ) -> Mapping[int, int]:
        layout = await self._prepared()
        query = queries.select_ranks(layout, venue, symbol, interval, first_ms, end_ms)
        return dict(await self._connections.audits.execute(query))

    async def _coverage(
        self, venue: str, since: Mapping[str, int], symbols: Collection[str]
    ) -> list[SeriesRuns]:
        layout = await self._prepared()
        return await run_steps(covering(layout, venue, since, symbols), self._connections.reads)

    async def _stored_runs(
        self, venue: str, symbol: str, interval: str, first_ms: int, end_ms: int
    ) -> tuple[Run, ...]:
        layout = await self._prepared()
        steps = finding_runs(layout, venue, symbol, interval, first_ms, end_ms)
        return await run_steps(steps, self._connections.audits)

    async def _updates(
        self, venue: str, symbol: str, interval: str, newest: int | None
    ) -> list[Kline]:
        connection = self._connections.reads
        layout = await run_steps(finding_updates(await self._prepared()), connection)
        if layout is None:
            return []
        query = queries.select_updates(layout, venue, symbol, interval, newest)
        return _klines(await connection.execute(query))[::-1]


def _klines(rows: Sequence[tuple[Any, ...]]) -> list[Kline]:
    klines = map(Kline._make, rows)
    # Servers without Bool return a number.
    return [kline._replace(is_closed=bool(kline.is_closed)) for kline in klines]


@asynccontextmanager
async def open_clickhouse(
    server: ServerLocation, *, may_create: bool = True
) -> AsyncIterator[ClickHouseStore]:
    """Open a store on `server`; it connects on its first call."""
    async with open_asyncio_thread("clickhouse") as thread:
        connections = _Connections(*(ServerConnection(server) for _ in fields(_Connections)))
        store = ClickHouseStore(
            server=server,
            thread=thread,
            connections=connections,
            readers=tuple(ServerConnection(server) for _ in range(READS_AT_ONCE)),
            may_create=may_create,
        )
        try:
            yield store
        finally:
            with trio.move_on_after(CLEANUP_WITHIN_S, shield=True):
                await store.close()
