"""Tables `imports` and `corrections` of the embedded engine, which reads files of the archive."""

from __future__ import annotations

import re
import shutil
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from attrs import define, field

from klineagent.core.errors import RowsRefused, StoreAnswerUnknown
from klineagent.core.interval import DAY_MS
from klineagent.storage.clickhouse.embedded_errors import engine_error
from klineagent.storage.clickhouse.history import unit as queries
from klineagent.storage.clickhouse.history.tables import (
    file_of,
    finding_history,
    insert_records,
    preparing_history,
    record_of,
    select_digests,
    select_newest_files,
    select_records,
    written,
)
from klineagent.storage.clickhouse.history.unit import UnitQueries, facts_of, has_repeats, name_of
from klineagent.storage.clickhouse.session import AS_JSON, Engine, Session, read_rows, run_steps
from klineagent.storage.clickhouse.tables.schema import Layout
from klineagent.storage.history import (
    DayDigest,
    FileFacts,
    FileState,
    ImportRecord,
    Judge,
    Loaded,
    Unit,
)
from klineagent.storage.url import FolderLocation

_INBOX = "importing"
"""The folder in the engine's folder that holds the files of a unit while they are read."""
_CODE = re.compile(r"Code: (\d+)\.")
_INNER = re.compile(r": \(|: While | \(code ")
# What the engine says of a file that it cannot read.
_DAMAGED = frozenset({
    26,  # CANNOT_PARSE_QUOTED_STRING
    32,  # ATTEMPT_TO_READ_AFTER_EOF
    72,  # CANNOT_PARSE_NUMBER
    117,  # INCORRECT_DATA
    354,  # ZLIB_INFLATE_FAILED
    636,  # CANNOT_EXTRACT_TABLE_STRUCTURE
})  # fmt: skip


@define(kw_only=True)
class EmbeddedHistory:
    """See `HistoryTables` and `Loader`: it has a session of its own, beside that of the writer."""

    _location: FolderLocation
    _engine: Engine
    _prepared: Callable[[Session], Layout]
    _is_there: bool = field(default=False, init=False)

    @property
    def loader(self) -> EmbeddedHistory:
        """See `HistoryTables`."""
        return self

    async def records(
        self, venue: str, symbols: Collection[str], intervals: Collection[str]
    ) -> list[ImportRecord]:
        """See `HistoryTables`."""

        def read(session: Session) -> list[ImportRecord]:
            layout = self._prepared(session)
            if not run_steps(finding_history(layout), session, self._location):
                return []
            query = select_records(layout, venue, symbols, intervals)
            return [record_of(row) for row in read_rows(session, query + AS_JSON)]

        return await self._engine.run(read) if symbols and intervals else []

    async def newest_files(self, most: int) -> list[ImportRecord]:
        """See `HistoryTables`."""

        def read(session: Session) -> list[ImportRecord]:
            layout = self._prepared(session)
            if not run_steps(finding_history(layout), session, self._location):
                return []
            rows = read_rows(session, select_newest_files(layout, most) + AS_JSON)
            return [*map(file_of, rows)]

        return await self._engine.run(read)

    async def day_digests(
        self, venue: str, symbols: Collection[str], interval: str, first_ms: int, end_ms: int
    ) -> list[DayDigest]:
        """See `HistoryTables`."""

        def read(session: Session) -> list[DayDigest]:
            layout = self._prepared(session)
            query = select_digests(layout, venue, symbols, interval, (first_ms, end_ms))
            return [DayDigest(*row) for row in read_rows(session, query + AS_JSON)]

        return await self._engine.run(read) if symbols else []

    async def record(self, records: Sequence[ImportRecord]) -> None:
        """See `HistoryTables`."""
        await self._engine.run(lambda session: self._record(session, records))

    async def load(self, unit: Unit, judge: Judge) -> list[Loaded]:
        """See `Loader`: all of it in one turn, so that no other call comes in between."""

        def load(session: Session) -> list[Loaded]:
            layout = self._prepared(session)
            inbox = self._location.folder / _INBOX
            shutil.rmtree(inbox, ignore_errors=True)  # of a process that was killed
            try:
                facts = self._parsed(session, UnitQueries(layout, unit), inbox)
            finally:
                shutil.rmtree(inbox, ignore_errors=True)
            records = [judge(number, facts[number]) for number in range(len(unit.files))]
            stored = self._stored(session, UnitQueries(layout, unit), records)
            self._record(session, records)
            _run(session, queries.clearing())
            return [Loaded(record, stored.get(number, 0)) for number, record in enumerate(records)]

        return await self._engine.run(load)

    def _parsed(
        self, session: Session, asking: UnitQueries, inbox: Path
    ) -> Mapping[int, FileFacts]:
        """Parse and check the files of a unit; return the facts of each."""
        places: dict[bool, list[int]] = defaultdict(list)
        for number, file in enumerate(asking.unit.files):
            folder = inbox / str(int(file.has_header))
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name_of(number)).write_bytes(file.gz)
            places[file.has_header].append(number)
        unreadable = self._parse(session, places, inbox)
        before = rows = read_rows(session, asking.facts() + AS_JSON)
        if has_repeats(rows):
            _run(session, queries.without_repeats())
            rows = read_rows(session, asking.facts() + AS_JSON)
        found = facts_of(rows, before)
        return {
            number: FileFacts(unreadable=unreadable[number])
            if number in unreadable
            else found.get(number, FileFacts())
            for number in range(len(asking.unit.files))
        }

    def _parse(
        self, session: Session, places: Mapping[bool, Sequence[int]], inbox: Path
    ) -> Mapping[int, str]:
        """Parse the files of a unit into its stage; return why some could not be read."""
        _run(session, queries.clearing())
        try:
            for has_header in places:
                folder = inbox / str(int(has_header))
                session.query(queries.parsing(folder / "*.csv.gz", has_header=has_header))
        except RuntimeError as error:
            self._damage(error)
        else:
            return {}
        # Files of others may be staged, and which one is damaged is not known.
        _run(session, queries.clearing())
        unreadable: dict[int, str] = {}
        for has_header, numbers in places.items():
            for number in numbers:
                path = inbox / str(int(has_header)) / name_of(number)
                try:
                    session.query(queries.parsing(path, has_header=has_header))
                except RuntimeError as error:
                    unreadable[number] = self._damage(error)
        return unreadable

    def _damage(self, error: RuntimeError) -> str:
        """Return what is wrong with a file that the engine could not read.

        Raises:
            StoreError: it is not the file's fault.
        """
        found = engine_error(self._location, error)
        code = _CODE.search(str(error))
        if not isinstance(found, RowsRefused) and (code is None or int(code[1]) not in _DAMAGED):
            raise found from error
        return "its rows cannot be read: " + _INNER.split(str(found).partition(": ")[2])[0]

    def _stored(
        self, session: Session, asking: UnitQueries, records: Sequence[ImportRecord]
    ) -> Mapping[int, int]:
        """Store the candles of files that are not refused; return how many of each were new."""
        rows = {
            number: record.rows
            for number, record in enumerate(records)
            if record.state is not FileState.REFUSED and record.rows
        }
        if not rows:
            return {}
        [[others]] = read_rows(session, asking.stored_before() + AS_JSON)
        new = rows
        if others:
            new = dict(read_rows(session, asking.not_stored(rows) + AS_JSON))
        if any(new.values()):
            session.query(asking.storing(rows, is_first=not others))
        self._verify(session, asking, [records[number] for number in rows])
        return new

    def _verify(
        self, session: Session, asking: UnitQueries, records: Sequence[ImportRecord]
    ) -> None:
        """Compare the closed candles that the store shows with those of the files.

        Raises:
            StoreAnswerUnknown: it has fewer.
        """
        symbols = {each.symbol for each in records}
        shown = {
            (symbol, day): count
            for symbol, day, count in read_rows(session, asking.closed_days(symbols) + AS_JSON)
        }
        for record in records:
            for day, count in enumerate(record.day_rows, record.first_day // DAY_MS):
                if (found := shown.get((record.symbol, day), 0)) < count:
                    raise StoreAnswerUnknown(
                        f"{self._location.label}: of {count} candles of {record.path} on a day it"
                        f" shows {found}; import again"
                    )

    def _record(self, session: Session, records: Sequence[ImportRecord]) -> None:
        if not records:
            return
        layout = self._prepared(session)
        if not self._is_there:
            run_steps(preparing_history(layout), session, self._location)
            self._is_there = True
        values = ", ".join(map(written, records))
        session.query(f"{insert_records(layout)} VALUES {values}")


def _run(session: Session, statements: Sequence[str]) -> None:
    for statement in statements:
        session.query(statement)
