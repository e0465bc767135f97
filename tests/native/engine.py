"""The modern engine: chdb, by the statement and by the block.

Rows are inserted by `INSERT ... FROM INFILE ... FORMAT Native` and not by chdb's `send_insert`:
that one (4.4.0) reports rows as written which the engine refused, be it for a constraint or for
too many partitions, and such refusals are what a client of a real server must be tested with.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Protocol, cast

from attrs import frozen

from tests.native.blocks import Block, Column, header_block, split_blocks
from tests.native.packets import Setting
from tests.native.statements import DataInsert, escaped, literal, without_format

_UNKNOWN_SETTING = 115
_UNKNOWN_EXCEPTION = 1002
_NOT_STREAMABLE = "Streaming query is not supported"
# What stands around "Code: 60. DB::Exception: text. (UNKNOWN_TABLE) (version 26.9.2.1)" is chdb's;
# on the wire the code travels by itself and its name is for the client to add.
_ERROR = re.compile(
    r"Code: (?P<code>\d+)\. (?P<message>DB::Exception: .*?)"
    r"(?:\. \([A-Z0-9_]+\))?(?: \(version [\d.]+\))?\Z",
    re.DOTALL,
)


class EngineError(Exception):
    """The engine refused; its code and text are ClickHouse's."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code

    @classmethod
    def parse(cls, text: str) -> EngineError:
        """Take apart what chdb says."""
        if match := _ERROR.search(text):
            return cls(int(match["code"]), match["message"])
        return cls(_UNKNOWN_EXCEPTION, text)


class _Result(Protocol):
    def bytes(self) -> bytes: ...


class _Stream(Protocol):
    def __iter__(self) -> Iterator[_Result]: ...
    def cancel(self) -> None: ...


class _ChdbSession(Protocol):
    """What is used of `chdb.session.Session`, which has no types."""

    def query(self, sql: str, fmt: str) -> _Result: ...
    def send_query(self, sql: str, fmt: str) -> _Stream: ...
    def close(self) -> None: ...


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # chdb's own error is a RuntimeError, and not the only one
        raise EngineError.parse(str(error)) from error


@frozen
class Session:
    """One client's view of the engine: its database and its settings.

    Used by one thread at a time; all methods raise `EngineError`.
    """

    _chdb: _ChdbSession

    def close(self) -> None:
        """Let go of the engine, which ends with its last session."""
        self._chdb.close()

    def run(self, text: str) -> bytes:
        """Run a statement and return what it answers, in FORMAT Native."""
        with _translated():
            return self._chdb.query(text, "Native").bytes()

    def rows(self, text: str) -> tuple[tuple[Column, ...], list[list[Any]]]:
        """Run a query and return its columns and rows, values as JSON has them."""
        with _translated():
            answer = json.loads(self._chdb.query(text, "JSONCompact").bytes())
        return tuple(Column(**column) for column in answer["meta"]), answer["data"]

    def execute(self, text: str) -> Generator[Block, None, None]:
        """Run any statement but a `DataInsert`; a result is its header, then its blocks.

        What has no result (DDL, SET, INSERT ... SELECT) yields nothing.
        """
        text = without_format(text)
        try:
            with _translated():
                stream = self._chdb.send_query(text, "Native")
        except EngineError as error:
            if _NOT_STREAMABLE not in str(error):
                raise
            # Only SELECT can be streamed; chdb tells before it does anything.
            yield from _with_header(split_blocks(self.run(text)))
            return
        try:
            with _translated():
                yield from _with_header(
                    (block for chunk in stream for block in split_blocks(chunk.bytes())),
                    if_empty=lambda: header_block(self.rows(text)[0]),
                )
        finally:
            stream.cancel()

    @contextmanager
    def settings(self, settings: Iterable[Setting]) -> Iterator[None]:
        """Apply settings to what runs inside; as in a server, unknown ones matter if important."""
        wanted = {setting.name: setting for setting in settings}
        if not wanted:
            yield
            return
        names = ", ".join(map(literal, wanted))
        before = self.rows(
            f"SELECT name, value, changed FROM system.settings WHERE name IN ({names})"
        )[1]
        known = {name for name, _, _ in before}
        for setting in wanted.values():
            if setting.important and setting.name not in known:
                raise EngineError(
                    _UNKNOWN_SETTING, f"DB::Exception: Unknown setting {literal(setting.name)}"
                )
        self._set({name: literal(wanted[name].value) for name in known})
        try:
            yield
        finally:
            self._set(
                {name: literal(value) if changed else "DEFAULT" for name, value, changed in before}
            )

    def _set(self, values: dict[str, str]) -> None:
        if values:
            self.run("SET " + ", ".join(f"{name} = {value}" for name, value in values.items()))

    def insert_header(self, insert: DataInsert) -> Block:
        """The sample block a client must follow; here it is told that it may not insert."""
        self.run(f"EXPLAIN PIPELINE {insert.target} VALUES")
        columns, _ = self.rows(f"SELECT {insert.columns or '*'} FROM {insert.table} LIMIT 0")
        return header_block(columns)

    def columns_description(self, table: str) -> str:
        """The table's columns and defaults, as a TableColumns packet tells them.

        Codecs, comments and TTLs are left out: clients have no use for them.
        """
        lines = []
        for name, kind, default, expression, *_ in self.rows(f"DESCRIBE TABLE {table}")[1]:
            line = f"`{name}` {escaped(kind)}"
            lines.append(f"{line}\t{default}\t{escaped(expression)}" if default else line)
        return "\n".join(["columns format version: 1", f"{len(lines)} columns:", *lines, ""])

    def insert(self, insert: DataInsert, blocks: Iterable[Block]) -> None:
        """Insert all rows of `blocks`, or raise; the blocks are read to their end in any case."""
        with NamedTemporaryFile(suffix=".native") as file:
            file.writelines(block.native for block in blocks)
            file.flush()
            source = f"FROM INFILE {literal(file.name)} {insert.settings} FORMAT Native"
            self.run(f"{insert.target} {source}")


def _with_header(
    blocks: Iterator[Block], *, if_empty: Callable[[], Block] | None = None
) -> Iterator[Block]:
    first = next(blocks, None)
    if first is not None:
        yield first.header()
        yield first
        yield from blocks
    elif if_empty is not None:
        yield if_empty()


class Engine:
    """chdb on one path; a process has at most one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._root = self.session()
        version, timezone = self._root.rows("SELECT version(), timezone()")[1][0]
        major, minor, patch, *_ = map(int, version.split("."))
        self.version = (major, minor, patch)
        self.timezone: str = timezone

    def session(self, database: str = "") -> Session:
        """Open a session; `EngineError` 81 where `database` does not exist."""
        # chdb is half a gigabyte: who only reads packets need not load it.
        from chdb.session import Session as ChdbSession

        open_session = cast("Callable[[str], _ChdbSession]", ChdbSession)
        with _translated():
            session = Session(open_session(str(self._path)))
        try:
            if database:
                session.run(f"USE `{database}`")
        except EngineError:
            session.close()
            raise
        return session

    def create_database(self, name: str) -> None:
        """Create a database where it does not exist."""
        self._root.run(f"CREATE DATABASE IF NOT EXISTS `{name}`")

    def close(self) -> None:
        """Close the engine; sessions still open keep it alive."""
        self._root.close()
