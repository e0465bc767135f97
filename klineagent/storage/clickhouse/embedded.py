"""The store on chdb: ClickHouse's engine embedded in this process, with its data in a folder.

A folder can be open in one process only, and a process can have one folder open. A session answers
no query during an insert, so there is one that writes, one that reads for the agent, one that
freezes snapshots, and some for readers. Each runs in a worker thread, one call at a time; a call
cannot be interrupted.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Generator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec
import trio
from attrs import define, field

from klineagent.core.errors import ConfigError
from klineagent.core.interval import Run
from klineagent.core.kline import Kline
from klineagent.storage.clickhouse import queries, rowbinary
from klineagent.storage.clickhouse.coverage import covering, finding_runs
from klineagent.storage.clickhouse.embedded_errors import engine_error, is_passing, unwritable
from klineagent.storage.clickhouse.freezing import freezing
from klineagent.storage.clickhouse.tables.preparation import (
    finding,
    finding_updates,
    preparing,
    preparing_updates,
)
from klineagent.storage.clickhouse.tables.schema import EMBEDDED, Layout, Rows, literal
from klineagent.storage.reader import READS_AT_ONCE, CandleTable, KlineRange, Reader, Shared
from klineagent.storage.snapshots import Frozen, Snapshots
from klineagent.storage.store import AgentRow, Batch, SeriesRuns, SeriesSummary, Table
from klineagent.storage.url import DEFAULT_DATABASE, FolderLocation

T = TypeVar("T")


class _Result(Protocol):
    def bytes(self) -> bytes: ...


class Session(Protocol):
    """The used part of `chdb.session.Session`; chdb has no types."""

    def query(self, sql: str, fmt: str = ...) -> _Result:
        """Run `sql`, and return its result in format `fmt`."""

    def close(self) -> None:
        """Release the folder, unless another session has it open."""


_INBOX = "incoming.rowbinary"
"""The file in the engine's folder that holds a batch while it is inserted."""

_AS_JSON = " SETTINGS output_format_json_quote_64bit_integers = 0"
_decode_rows = msgspec.json.Decoder(list[Any]).decode_lines
_decode_klines = msgspec.json.Decoder(Kline).decode_lines


@define
class _Engine:
    """A session on the folder, opened on first use."""

    _location: FolderLocation
    _open_session: Callable[[str], Session]
    _session: Session | None = None
    # A session takes one call at a time.
    _turns: trio.CapacityLimiter = field(factory=lambda: trio.CapacityLimiter(1))

    async def run(self, function: Callable[[Session], T]) -> T:
        """Call `function` with the session, in a worker thread.

        Raises:
            StoreError: the engine, or access to its folder, failed.
        """

        def call() -> T:
            try:
                return function(self._opened())
            except RuntimeError as error:
                raise engine_error(self._location, error) from error
            except OSError as error:
                raise unwritable(self._location, error) from error

        return await trio.to_thread.run_sync(call, limiter=self._turns)

    async def close(self) -> None:
        await trio.to_thread.run_sync(self._close, limiter=self._turns)

    def _close(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None

    def _opened(self) -> Session:
        if self._session is None:
            self._location.folder.mkdir(parents=True, exist_ok=True)
            try:
                self._session = self._open_session(str(self._location.folder))
            except RuntimeError as error:
                if not is_passing(self._location, error):
                    raise
                self._session = self._open_session(str(self._location.folder))
        return self._session


def _rows(session: Session, query: str) -> list[Any]:
    return _decode_rows(_fetched(session, query))


def _fetched(session: Session, query: str, form: str = "JSONCompactEachRow") -> bytes:
    return session.query(query, form).bytes()


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


def run_steps(
    steps: Generator[str, Rows, T],
    session: Session,
    location: FolderLocation,
    settings: str = "",
) -> T:
    """Run the queries that `steps` yields, throw failures into it, and return its result."""
    try:
        query = next(steps)
        while True:
            try:
                rows = _rows(session, query + settings)
            except RuntimeError as error:
                query = steps.throw(engine_error(location, error))
            else:
                query = steps.send(rows)
    except StopIteration as end:
        result: T = end.value
        return result


@define(kw_only=True)
class EmbeddedStore:
    """See `Store`. The first call creates folder, database and tables."""

    _location: FolderLocation
    _writing: _Engine
    _reading: _Engine
    _freezing: _Engine
    _sessions: Shared[_Engine]
    _may_create: bool
    reader: Reader = field(init=False)
    snapshots: Snapshots = field(init=False)
    _layout: Layout | None = None
    _takes_updates: bool = False

    def __attrs_post_init__(self) -> None:
        self.reader = Reader(self._read_range, self._read_table)
        self.snapshots = Snapshots(self._location.folder, self._freeze)

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
            return _rows(session, queries.select_summary(self._prepared(session)) + _AS_JSON)

        return [SeriesSummary(*row) for row in await self._reading.run(read)]

    async def final_klines(
        self, venue: str, symbol: str, interval: str, *, newest: int | None = None
    ) -> list[Kline]:
        """See `Store`."""

        def read(session: Session) -> list[Kline]:
            query = queries.select_final(self._prepared(session), venue, symbol, interval, newest)
            return _decode_klines(_fetched(session, query + _AS_JSON))[::-1]

        return await self._reading.run(read)

    async def _read_range(self, wanted: KlineRange, most: int) -> list[Kline]:
        def read(session: Session) -> list[Kline]:
            query = queries.select_range(self._prepared(session), wanted, most)
            return _decode_klines(_fetched(session, query + _AS_JSON))

        async with self._sessions.taken() as engine:
            return await engine.run(read)

    async def _read_table(self, wanted: KlineRange) -> CandleTable:
        def read(session: Session) -> CandleTable:
            import pyarrow.ipc  # chdb has it

            query = queries.select_table(self._prepared(session), wanted)
            return pyarrow.ipc.open_stream(_fetched(session, query, "ArrowStream")).read_all()

        async with self._sessions.taken() as engine:
            return await engine.run(read)

    async def final_kline(
        self, venue: str, symbol: str, interval: str, open_time: int
    ) -> Kline | None:
        """See `Store`."""

        def read(session: Session) -> list[Kline]:
            layout = self._prepared(session)
            query = queries.select_candle(layout, venue, symbol, interval, open_time)
            return _decode_klines(_fetched(session, query + _AS_JSON))

        return next(iter(await self._reading.run(read)), None)

    async def highest_ranks(
        self, venue: str, symbol: str, interval: str, first_ms: int, end_ms: int
    ) -> Mapping[int, int]:
        """See `Store`."""

        def read(session: Session) -> list[Any]:
            layout = self._prepared(session)
            query = queries.select_ranks(layout, venue, symbol, interval, first_ms, end_ms)
            return _rows(session, query + _AS_JSON)

        return dict(await self._reading.run(read))

    async def coverage(
        self, venue: str, since: Mapping[str, int], symbols: Collection[str]
    ) -> list[SeriesRuns]:
        """See `Store`."""

        def read(session: Session) -> list[SeriesRuns]:
            steps = covering(self._prepared(session), venue, since, symbols)
            return run_steps(steps, session, self._location, _AS_JSON)

        return await self._reading.run(read)

    async def stored_runs(
        self, venue: str, symbol: str, interval: str, first_ms: int, end_ms: int
    ) -> tuple[Run, ...]:
        """See `Store`."""

        def read(session: Session) -> tuple[Run, ...]:
            layout = self._prepared(session)
            steps = finding_runs(layout, venue, symbol, interval, first_ms, end_ms)
            return run_steps(steps, session, self._location, _AS_JSON)

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
            return _decode_klines(_fetched(session, query + _AS_JSON))[::-1]

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


def load_engine(label: str) -> Callable[[str], Session]:
    """Import the engine, and return what opens a session on a folder.

    Raises:
        ConfigError: it is not installed; `label` says what needs it.
    """
    try:
        # Not in a worker thread: during its import it changes the working directory.
        import chdb.session
    except ImportError as error:
        raise ConfigError(
            f"{label} needs the embedded engine: pip install 'klineagent[embedded]',"
            " or use a server: --store clickhouse://..."
        ) from error
    open_session: Callable[[str], Session] = chdb.session.Session
    return open_session


@asynccontextmanager
async def open_embedded(
    location: FolderLocation, *, may_create: bool = True
) -> AsyncIterator[EmbeddedStore]:
    """Open a store in a folder, which is locked from the first call until the block ends.

    Raises:
        ConfigError: chdb is not installed.
    """
    open_session = load_engine(location.label)
    writing, reading, cold, *sessions = (
        _Engine(location, open_session) for _ in range(3 + READS_AT_ONCE)
    )
    try:
        yield EmbeddedStore(
            location=location,
            writing=writing,
            reading=reading,
            freezing=cold,
            sessions=Shared([*sessions]),
            may_create=may_create,
        )
    finally:
        # A call in its thread cannot be interrupted, so a deadline could not be kept.
        with trio.CancelScope(shield=True):
            for engine in (writing, reading, cold, *sessions):
                await engine.close()
