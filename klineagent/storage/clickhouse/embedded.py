"""The store on chdb: ClickHouse's engine embedded in this process, with its data in a folder.

A folder can be open in one process only, and a process can have one folder open. A session answers
no query during an insert, so there is one that writes, one that reads for the agent, one that
freezes snapshots, one that imports, and some for readers. Each runs in a worker thread, one call at
a time; a call cannot be interrupted.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import trio
from attrs import define, field

from klineagent.core.interval import Run
from klineagent.core.kline import Kline
from klineagent.storage.clickhouse import queries, rowbinary
from klineagent.storage.clickhouse.coverage import covering, finding_runs
from klineagent.storage.clickhouse.freezing import freezing
from klineagent.storage.clickhouse.history.embedded import EmbeddedHistory
from klineagent.storage.clickhouse.session import (
    AS_JSON,
    Engine,
    Session,
    fetched,
    load_engine,
    read_rows,
    run_steps,
)
from klineagent.storage.clickhouse.tables.preparation import (
    finding,
    finding_updates,
    preparing,
    preparing_updates,
)
from klineagent.storage.clickhouse.tables.schema import EMBEDDED, Layout, literal
from klineagent.storage.reader import READS_AT_ONCE, CandleTable, KlineRange, Reader, Shared
from klineagent.storage.snapshots import Frozen, Snapshots
from klineagent.storage.store import AgentRow, Batch, SeriesRuns, SeriesSummary, Table
from klineagent.storage.url import DEFAULT_DATABASE, FolderLocation

_INBOX = "incoming.rowbinary"
"""The file in the engine's folder that holds a batch while it is inserted."""

_decode_klines = msgspec.json.Decoder(Kline).decode_lines


def _insert(session: Session, layout: Layout, batch: Batch, file: Path) -> None:
    # Through a file, because chdb's streaming insert reports success even if the table refused the
    # rows (seen in 4.4 with codes 252 and 469), and inline data ends at the first empty line.
    rows = rowbinary.encode(batch.klines)
    settings = {**layout.dialect.insert_settings, "insert_deduplication_token": batch.token}
    pairs = ", ".join(f"{name} = {literal(str(value))}" for name, value in settings.items())
    source = f"file({literal(str(file))}, RowBinary, {literal(rowbinary.STRUCTURE)})"
    select = f"SELECT * FROM {source} SETTINGS {pairs}"  # noqa: S608 - texts are literals
    try:
        file.write_bytes(rows)
        session.query(f"{queries.insert_klines(layout, batch.table)} {select}")
    finally:
        file.unlink(missing_ok=True)


@define(kw_only=True)
class EmbeddedStore:
    """See `Store`. The first call creates folder, database and tables."""

    _location: FolderLocation
    _writing: Engine
    _reading: Engine
    _freezing: Engine
    _importing: Engine
    _sessions: Shared[Engine]
    _may_create: bool
    reader: Reader = field(init=False)
    snapshots: Snapshots = field(init=False)
    history: EmbeddedHistory = field(init=False)
    _layout: Layout | None = None
    _takes_updates: bool = False

    def __attrs_post_init__(self) -> None:
        self.reader = Reader(self._read_range, self._read_table)
        self.snapshots = Snapshots(self._location.folder, self._freeze)
        self.history = EmbeddedHistory(
            location=self._location, engine=self._importing, prepared=self._prepared
        )

    @property
    def label(self) -> str:
        """See `Store`."""
        return self._location.label

    async def prepare(self) -> None:
        """Prepare the tables; counts as a read.

        Raises:
            StoreMisconfigured: the folder cannot be used, or another process uses it.
            StoreError: the engine failed otherwise.
        """
        await self._reading.run(self._prepared)

    async def insert(self, batch: Batch) -> None:
        """See `Store`."""
        if not batch.klines:
            return

        def insert(session: Session) -> None:
            # An open session has the folder for itself, so the file needs no unique name.
            layout = self._prepared(session)
            if batch.table is Table.UPDATES and not self._takes_updates:
                run_steps(preparing_updates(layout), session, self._location)
                self._takes_updates = True
            _insert(session, layout, batch, self._location.folder / _INBOX)

        await self._writing.run(insert)

    async def record_agent(self, row: AgentRow) -> None:
        """See `Store`."""

        def record(session: Session) -> None:
            database = self._prepared(session).database
            # DateTime64(3) takes a quoted integer as milliseconds, a bare one as seconds.
            values = ", ".join(literal(str(value)) for value in queries.agent_values(row))
            session.query(f"{queries.insert_agent(database)} VALUES ({values})")
            session.query(queries.collapse_agents(database))

        await self._writing.run(record)

    async def summary(self) -> list[SeriesSummary]:
        """See `Store`."""

        def read(session: Session) -> list[Any]:
            return read_rows(session, queries.select_summary(self._prepared(session)) + AS_JSON)

        return [SeriesSummary(*row) for row in await self._reading.run(read)]

    async def final_klines(
        self, venue: str, symbol: str, interval: str, *, newest: int | None = None
    ) -> list[Kline]:
        """See `Store`."""

        def read(session: Session) -> list[Kline]:
            query = queries.select_final(self._prepared(session), venue, symbol, interval, newest)
            return _decode_klines(fetched(session, query + AS_JSON))[::-1]

        return await self._reading.run(read)

    async def _read_range(self, wanted: KlineRange, most: int) -> list[Kline]:
        def read(session: Session) -> list[Kline]:
            query = queries.select_range(self._prepared(session), wanted, most)
            return _decode_klines(fetched(session, query + AS_JSON))

        async with self._sessions.taken() as engine:
            return await engine.run(read)

    async def _read_table(self, wanted: KlineRange) -> CandleTable:
        def read(session: Session) -> CandleTable:
            import pyarrow.ipc  # chdb has it

            query = queries.select_table(self._prepared(session), wanted)
            return pyarrow.ipc.open_stream(fetched(session, query, "ArrowStream")).read_all()

        async with self._sessions.taken() as engine:
            return await engine.run(read)

    async def final_kline(
        self, venue: str, symbol: str, interval: str, open_time: int
    ) -> Kline | None:
        """See `Store`."""

        def read(session: Session) -> list[Kline]:
            layout = self._prepared(session)
            query = queries.select_candle(layout, venue, symbol, interval, open_time)
            return _decode_klines(fetched(session, query + AS_JSON))

        return next(iter(await self._reading.run(read)), None)

    async def highest_ranks(
        self, venue: str, symbol: str, interval: str, first_ms: int, end_ms: int
    ) -> Mapping[int, int]:
        """See `Store`."""

        def read(session: Session) -> list[Any]:
            layout = self._prepared(session)
            query = queries.select_ranks(layout, venue, symbol, interval, first_ms, end_ms)
            return read_rows(session, query + AS_JSON)

        return dict(await self._reading.run(read))

    async def coverage(
        self, venue: str, since: Mapping[str, int], symbols: Collection[str]
    ) -> list[SeriesRuns]:
        """See `Store`."""

        def read(session: Session) -> list[SeriesRuns]:
            steps = covering(self._prepared(session), venue, since, symbols)
            return run_steps(steps, session, self._location, AS_JSON)

        return await self._reading.run(read)

    async def stored_runs(
        self, venue: str, symbol: str, interval: str, first_ms: int, end_ms: int
    ) -> tuple[Run, ...]:
        """See `Store`."""

        def read(session: Session) -> tuple[Run, ...]:
            layout = self._prepared(session)
            steps = finding_runs(layout, venue, symbol, interval, first_ms, end_ms)
            return run_steps(steps, session, self._location, AS_JSON)

        return await self._reading.run(read)

    async def updates(
        self, venue: str, symbol: str, interval: str, *, newest: int | None = None
    ) -> list[Kline]:
        """See `Store`."""

        def read(session: Session) -> list[Kline]:
            steps = finding_updates(self._prepared(session))
            layout = run_steps(steps, session, self._location)
            if layout is None:
                return []
            query = queries.select_updates(layout, venue, symbol, interval, newest)
            return _decode_klines(fetched(session, query + AS_JSON))[::-1]

        return await self._reading.run(read)

    async def _freeze(self, name: str) -> Frozen:
        def freeze(session: Session) -> Frozen:
            database = self._prepared(session).database
            steps = freezing(database, name, self._location.folder)
            return run_steps(steps, session, self._location)

        return await self._freezing.run(freeze)

    def _prepared(self, session: Session) -> Layout:
        # All sessions may run this at once; doing a step twice is harmless.
        if self._layout is None:
            steps = preparing if self._may_create else finding
            self._layout = run_steps(steps(DEFAULT_DATABASE, EMBEDDED), session, self._location)
        return self._layout


@asynccontextmanager
async def open_embedded(
    location: FolderLocation, *, may_create: bool = True
) -> AsyncIterator[EmbeddedStore]:
    """Open a store in a folder, which is locked from the first call until the block ends.

    Raises:
        ConfigError: chdb is not installed.
    """
    open_session = load_engine(location.label)
    writing, reading, cold, importing, *sessions = (
        Engine(location, open_session) for _ in range(4 + READS_AT_ONCE)
    )
    try:
        yield EmbeddedStore(
            location=location,
            writing=writing,
            reading=reading,
            freezing=cold,
            importing=importing,
            sessions=Shared([*sessions]),
            may_create=may_create,
        )
    finally:
        # A call in its thread cannot be interrupted, so a deadline could not be kept.
        with trio.CancelScope(shield=True):
            for engine in (writing, reading, cold, importing, *sessions):
                await engine.close()
