"""An engine of our own on a snapshot: any SQL, which changes nothing of what is recorded."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO

import msgspec
from attrs import frozen

from klineagent.core.errors import UNREADABLE, QueryFailed
from klineagent.storage.clickhouse.freezing import attaching
from klineagent.storage.clickhouse.session import Session, load_engine, run_steps
from klineagent.storage.clickhouse.tables.schema import literal, quoted
from klineagent.storage.held_folders import held, sweep
from klineagent.storage.snapshots import Frozen
from klineagent.storage.url import FolderLocation

_PREFIX = "klineagent-sql-"
_HOLD_WITHIN_S = 60
"""A process holds a folder it made within this time; later, a free one is of a dead process."""
_CHUNK_BYTES = 1 << 16
_ERROR = re.compile(r"(?:Code: \d+\. DB::Exception: )+(.*)", re.DOTALL)
_SETTINGS = {
    "output_format_write_statistics": 0,
    # A pipe is no terminal, so that the engine has to be told.
    "output_format_pretty_color": 0,
}


@frozen
class SnapshotEngine:
    """Answers queries, one at a time; Ctrl-C ends one."""

    folder: Path
    _asking: Session
    _killing: Session
    """A session answers nothing while it runs a query."""

    def write(self, text: str, form: str, out: BinaryIO) -> None:
        """Run the query `text`, and write its rows in ClickHouse's format `form` as they come.

        A format in the text has priority.

        Raises:
            QueryFailed: the engine refused the query, or broke it off; what was written stays.
            OutputError: nothing more can be written to `out`.
            KeyboardInterrupt: Ctrl-C ended the query.
        """
        failures: list[RuntimeError] = []
        read_end, write_end = os.pipe()

        def ask() -> None:
            try:
                if self._is_plain(text):
                    # Into a pipe: as a result all rows would be in memory at once, and the engine's
                    # streams are a row of documents, not one.
                    sink = f"INTO OUTFILE '/dev/fd/{write_end}' APPEND FORMAT {form}"
                    self._asking.query(f"{text}\n{sink}")
                else:
                    rest = memoryview(self._asking.query(text, form).bytes())
                    while rest:
                        rest = rest[os.write(write_end, rest) :]
            except RuntimeError as error:
                failures.append(error)
            except BrokenPipeError:
                pass  # the reader has closed the pipe
            finally:
                os.close(write_end)

        thread = threading.Thread(target=ask, name="query")
        thread.start()
        try:
            with open(read_end, "rb", buffering=0) as answer:  # noqa: PTH123 - a descriptor
                while chunk := answer.read(_CHUNK_BYTES):
                    out.write(chunk)
                out.flush()
        except BaseException:  # Ctrl-C, or a closed pipe: the rest is not wanted
            self.kill()
            raise
        finally:
            thread.join()
        if failures:
            raise failed(failures[0]) from failures[0]

    def _is_plain(self, text: str) -> bool:
        """Return whether `text` is one SELECT that does not say where its rows go."""
        try:
            parsed = self._asking.query(f"SELECT parseQueryToJSON({literal(text)})", "TSVRaw")
            root = msgspec.json.decode(parsed.bytes())
        except (RuntimeError, *UNREADABLE):  # several statements, or one that is wrong
            return False
        is_select = root["type"] == "SelectWithUnionQuery"
        return is_select and not {"format_ast", "out_file"} & root.keys()

    def run(self, text: str) -> bytes:
        """Run a query of ours, and return its rows as TSV; errors are those of `write`."""
        try:
            return self._asking.query(text, "TSV").bytes()
        except RuntimeError as error:
            raise failed(error) from error

    def kill(self) -> None:
        """End the query under way."""
        self._killing.query("KILL QUERY WHERE query_id != queryID() SYNC")


def failed(error: RuntimeError) -> QueryFailed:
    """Make one line of the engine's error."""
    found = _ERROR.search(str(error))
    if found is None:
        return QueryFailed(str(error).partition("\n")[0])
    reason = re.sub(r" *\n\s*", " ", found[1].partition(" Stack trace:")[0]).strip()
    return QueryFailed(reason.removesuffix("."))


@contextmanager
def open_engine(snapshot: Frozen | None, label: str) -> Iterator[SnapshotEngine]:
    """Open an engine in a temporary folder, with the tables of `snapshot` if there is one.

    Raises:
        ConfigError: the engine is not installed.
        StoreError: the tables cannot be attached.
    """
    open_session = load_engine(label)
    with (
        _temporary_folder() as folder,
        closing(open_session(str(folder))) as asking,
        closing(open_session(str(folder))) as kill,
    ):
        if snapshot is not None:
            run_steps(attaching(snapshot), asking, FolderLocation(folder=folder))
            asking.query(f"USE {quoted(snapshot.database)}")
        for name, value in _SETTINGS.items():
            asking.query(f"SET {name} = {literal(str(value))}")
        yield SnapshotEngine(folder, asking, kill)


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    parent = Path(tempfile.gettempdir())
    sweep(parent, _PREFIX, older_than_s=_HOLD_WITHIN_S)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    try:
        with held(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
