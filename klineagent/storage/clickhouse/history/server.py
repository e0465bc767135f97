"""Tables `imports` and `corrections` on a ClickHouse server, which takes rows only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from typing import Any, Protocol, TypeVar

from attrs import define, field

from klineagent.storage.clickhouse.connection import ServerConnection, run_steps
from klineagent.storage.clickhouse.history.tables import (
    file_of,
    finding_history,
    insert_records,
    preparing_history,
    record_of,
    record_values,
    select_digests,
    select_newest_files,
    select_records,
)
from klineagent.storage.clickhouse.tables.schema import Layout
from klineagent.storage.history import DayDigest, ImportRecord

WITHIN_S = 60
DIGESTS_WITHIN_S = 300
_Result = TypeVar("_Result")


class OnThread(Protocol):
    """Runs a function on the thread of the server's connections."""

    async def __call__(
        self,
        within_s: float,
        function: Callable[..., Coroutine[Any, Any, _Result]],
        /,
        *args: object,
    ) -> _Result:
        """Return its result, or raise `StoreUnavailable` after so many seconds."""


@define(kw_only=True)
class ServerHistory:
    """See `HistoryTables`."""

    _call: OnThread
    _connection: ServerConnection
    _prepared: Callable[[], Awaitable[Layout]]
    loader: None = field(default=None, init=False)
    _is_there: bool = field(default=False, init=False)

    async def records(
        self, venue: str, symbols: Collection[str], intervals: Collection[str]
    ) -> list[ImportRecord]:
        """See `HistoryTables`."""
        if not symbols or not intervals:
            return []
        return await self._call(WITHIN_S, self._records, venue, symbols, intervals)

    async def newest_files(self, most: int) -> list[ImportRecord]:
        """See `HistoryTables`."""
        return await self._call(WITHIN_S, self._newest_files, most)

    async def day_digests(
        self, venue: str, symbols: Collection[str], interval: str, first_ms: int, end_ms: int
    ) -> list[DayDigest]:
        """See `HistoryTables`."""
        if not symbols:
            return []
        bounds = (first_ms, end_ms)
        return await self._call(
            DIGESTS_WITHIN_S, self._day_digests, venue, symbols, interval, bounds
        )

    async def record(self, records: Sequence[ImportRecord]) -> None:
        """See `HistoryTables`."""
        if records:
            await self._call(WITHIN_S, self._record, records)

    # The methods below run on the asyncio thread.

    async def _records(
        self, venue: str, symbols: Collection[str], intervals: Collection[str]
    ) -> list[ImportRecord]:
        layout = await self._prepared()
        if not await run_steps(finding_history(layout), self._connection):
            return []
        query = select_records(layout, venue, symbols, intervals)
        return [record_of(row) for row in await self._connection.execute(query)]

    async def _newest_files(self, most: int) -> list[ImportRecord]:
        layout = await self._prepared()
        if not await run_steps(finding_history(layout), self._connection):
            return []
        rows = await self._connection.execute(select_newest_files(layout, most))
        return [*map(file_of, rows)]

    async def _day_digests(
        self, venue: str, symbols: Collection[str], interval: str, bounds: tuple[int, int]
    ) -> list[DayDigest]:
        layout = await self._prepared()
        query = select_digests(layout, venue, symbols, interval, bounds)
        return [DayDigest(*row) for row in await self._connection.execute(query)]

    async def _record(self, records: Sequence[ImportRecord]) -> None:
        layout = await self._prepared()
        if not self._is_there:
            await run_steps(preparing_history(layout), self._connection)
            self._is_there = True
        await self._connection.execute(
            f"{insert_records(layout)} VALUES",
            [record_values(each) for each in records],
            settings=dict(layout.dialect.insert_settings),
        )
