"""Sessions of the embedded engine: queries in worker threads, one call of a session at a time."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Protocol, TypeVar

import msgspec
import trio
from attrs import define, field

from klineagent.core.errors import ConfigError
from klineagent.storage.clickhouse.embedded_errors import engine_error, is_passing, unwritable
from klineagent.storage.clickhouse.tables.schema import Rows
from klineagent.storage.url import FolderLocation

T = TypeVar("T")

AS_JSON = " SETTINGS output_format_json_quote_64bit_integers = 0"
"""What `read_rows` needs at the end of a query with 64-bit numbers."""
_decode_rows = msgspec.json.Decoder(list[Any]).decode_lines


class _Result(Protocol):
    def bytes(self) -> bytes: ...


class Session(Protocol):
    """The used part of `chdb.session.Session`; chdb has no types."""

    def query(self, sql: str, fmt: str = ...) -> _Result:
        """Run `sql`, and return its result in format `fmt`."""

    def close(self) -> None:
        """Release the folder, unless another session has it open."""


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


@define
class Engine:
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
        """Release the folder, unless another session has it open."""
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


def read_rows(session: Session, query: str) -> list[Any]:
    """Run `query`, and return its rows."""
    return _decode_rows(fetched(session, query))


def fetched(session: Session, query: str, form: str = "JSONCompactEachRow") -> bytes:
    """Run `query`, and return its answer in a format of ClickHouse's."""
    return session.query(query, form).bytes()


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
                rows = read_rows(session, query + settings)
            except RuntimeError as error:
                query = steps.throw(engine_error(location, error))
            else:
                query = steps.send(rows)
    except StopIteration as end:
        result: T = end.value
        return result
