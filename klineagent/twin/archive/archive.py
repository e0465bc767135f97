"""The exchange's public archive: a bucket of zipped candles, made from markets or of a folder."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

import trio
from attrs import define, evolve, field

from klineagent.twin.archive import bucket, zipped
from klineagent.twin.archive.answer import XML, ArchiveAnswer, answer_object, not_found
from klineagent.twin.archive.bucket import Stored
from klineagent.twin.archive.faults.fault import PublishedFile
from klineagent.twin.archive.faults.faults import ArchiveFaults
from klineagent.twin.archive.key import CHECKSUM, day_of
from klineagent.twin.archive.made import MadeTree, Publication
from klineagent.twin.archive.mirror import MirrorTree
from klineagent.twin.archive.text import HEADER, FileRow, has_header, has_microseconds, lines_of
from klineagent.twin.archive.traded import TradedVenue
from klineagent.twin.exchange import Exchange

HOSTS = frozenset({bucket.NAME, "s3-ap-northeast-1.amazonaws.com"})
"""Where the exchange has its archive: files at the first, the bucket by its name at both."""
PATH = "/archive"
"""Where a twin with a port of its own has it."""

_MOST_ENTRIES = 1_000
# A client asks for a file's zip, its checksum, and perhaps a part of it: a dozen months of 1m.
_KEPT_BYTES = 32 * 1024 * 1024
# Making a month takes part of a second; in between others get their turn.
_ROWS_AT_ONCE = 500


@define(kw_only=True, eq=False)
class PublicArchive:
    """The archive of some venues; what they have traded is published when its day is over.

    Of a `mirror`, a folder with real files, it has those instead.
    """

    venues: Mapping[str, TradedVenue] = field(factory=dict)
    mirror: Path | None = None
    now_ms: Callable[[], int]
    seed: int = 0
    """Decides where faults strike."""
    publication: Publication = field(factory=Publication)
    most_entries: int = _MOST_ENTRIES
    """The largest page of a listing."""
    faults: ArchiveFaults = field(init=False)
    _made: OrderedDict[str, bytes] = field(init=False, factory=OrderedDict)
    _making: trio.Lock = field(init=False, factory=trio.Lock)

    @faults.default
    def _no_faults(self) -> ArchiveFaults:
        return ArchiveFaults(seed=self.seed, now_ms=self.now_ms)

    def reusing(
        self, venue_name: str, symbol: str, *, since_ms: int, until_ms: int
    ) -> AbstractContextManager[None]:
        """Let `symbol` have been another coin's, before its own listing; REST has the later."""
        self.faults.injected["reusing"] += 1
        return self.venues[venue_name].reusing(symbol, since_ms, until_ms)

    async def answer(
        self, method: str, target: str, headers: Mapping[str, str]
    ) -> ArchiveAnswer | None:
        """Answer a request; names of `headers` are in lower case. None: reset the connection."""
        if await self.faults.hang():
            return None
        url = urlsplit(target)
        path = unquote(url.path)
        for name in (PATH, f"/{bucket.NAME}"):
            if path == name or path.startswith(f"{name}/"):
                path = path.removeprefix(name)
        key, query = path.removeprefix("/"), dict(parse_qsl(url.query, keep_blank_values=True))
        answer = self.faults.refusal()
        if answer is None and method not in {"GET", "HEAD"}:
            text = bucket.error_answer("MethodNotAllowed", "This method is not allowed.", key)
            answer = ArchiveAnswer(status=405, headers=(XML,), body=text)
        if answer is None:
            answer = await self._object(key, headers) if key else self._listing(query)
        length = ("Content-Length", str(len(answer.body)))
        body = b"" if method == "HEAD" else answer.body
        return self.faults.spoil(evolve(answer, headers=(*answer.headers, length), body=body))

    def _listing(self, query: Mapping[str, str]) -> ArchiveAnswer:
        try:
            tree = self._tree() if self.mirror is None else MirrorTree(self.mirror)
            body = bucket.list_bucket(tree, query, self.most_entries)
        except ValueError:
            text = bucket.error_answer("InvalidArgument", "A parameter is not valid.", "")
            return ArchiveAnswer(status=400, headers=(XML,), body=text)
        return ArchiveAnswer(status=200, headers=(XML,), body=body)

    async def _object(self, path: str, headers: Mapping[str, str]) -> ArchiveAnswer:
        if self.mirror is None:
            found = await self._find(path)
        else:
            found = MirrorTree(self.mirror).find(path)
        return not_found(path) if found is None else answer_object(*found, headers)

    async def _find(self, path: str) -> tuple[Stored, bytes] | None:
        """An object and its content; None if it is not there now."""
        tree = self._tree()
        state = tree.state(path)
        objects = [] if state is None else list(tree.objects(state))
        stored = next((each for each in objects if each.key == path), None)
        if state is None or stored is None:
            return None
        self.faults.count(state)
        content = await self._zip(tree, state)
        if path.endswith(CHECKSUM):
            is_wrong = any(fault.wrong_checksum for fault in state.faults)
            content = zipped.checksum_of(state.file, content + b"?" * is_wrong).encode()
        return stored, content

    def _tree(self) -> MadeTree:
        return MadeTree(
            venues=self.venues,
            publication=self.publication,
            faults=self.faults,
            now_ms=self.now_ms(),
        )

    async def _zip(self, tree: MadeTree, state: PublishedFile) -> bytes:
        """The zip of a file, made when it is first asked for."""
        async with self._making:
            if state.version not in self._made:
                self._made[state.version] = await self._make(tree, state)
                while sum(map(len, self._made.values())) > _KEPT_BYTES and len(self._made) > 1:
                    self._made.popitem(last=False)
            self._made.move_to_end(state.version)
            return self._made[state.version]

    async def _make(self, tree: MadeTree, state: PublishedFile) -> bytes:
        file = state.file
        venue, close_of = self.venues[file.venue_name], file.interval.close_of
        rows: list[FileRow] = []
        for candle in venue.candles(file):
            rows.append(FileRow(candle, close_of(candle.open_time)))
            if not len(rows) % _ROWS_AT_ONCE:
                await trio.lowlevel.checkpoint()
        for fault in state.faults:
            rows = fault.apply(file, rows)
        size = tree.size(state)
        if any(fault.spoils_zip for fault in state.faults):
            return zipped.no_zip(size)
        listing = venue.listings[file.symbol]
        headers = [fault.header for fault in state.faults if fault.header is not None]
        parts = [HEADER] if (headers or [has_header(file)])[0] else []
        microseconds = has_microseconds(file) or any(fault.microseconds for fault in state.faults)
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            some = rows[start : start + _ROWS_AT_ONCE]
            parts.append(lines_of(file, listing, some, microseconds=microseconds))
            await trio.lowlevel.checkpoint()
        text = "".join(parts).encode()
        return zipped.zip_of(file, text, size, day_of(state.modified_ms))


def archive_of(exchanges: Mapping[str, Exchange], *, mirror: Path | None = None) -> PublicArchive:
    """Make the archive of exchanges, which share a clock and a seed; or that of a folder."""
    venues = {
        name: TradedVenue(aggregator=each.rest.aggregator) for name, each in exchanges.items()
    }
    one = next(iter(exchanges.values()))
    return PublicArchive(venues=venues, mirror=mirror, now_ms=one.clock.now_ms, seed=one.seed)
