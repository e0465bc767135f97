"""The exchange's public archive: a bucket of zipped candles, made from markets or of a folder."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from urllib.parse import parse_qsl, unquote, urlsplit

import trio
from attrs import define, evolve, field

from klineagent.twin.archive import bucket, zipped
from klineagent.twin.archive.answer import XML, ArchiveAnswer, answer_object, not_found
from klineagent.twin.archive.key import CHECKSUM, TwinFile, day_of
from klineagent.twin.archive.made import MadeTree, Publication, TradedVenue
from klineagent.twin.archive.text import HEADER, FileRow, has_header, in_microseconds, text_of
from klineagent.twin.exchange import Exchange

HOSTS = frozenset({bucket.NAME, "s3-ap-northeast-1.amazonaws.com"})
"""Where the exchange has its archive: files at the first, the bucket by its name at both."""
PATH = "/archive"
"""Where a twin with a port of its own has it."""

_MOST_ENTRIES = 1_000
# A month of 1m is 2.9 MB; a client asks for a file's zip, its checksum, and perhaps a part of it.
_KEPT_BYTES = 64 * 1024 * 1024
# Making a month takes most of a second; in between others get their turn.
_ROWS_AT_ONCE = 500


@define(kw_only=True, eq=False)
class PublicArchive:
    """The archive of some venues; what they have traded is published when its day is over."""

    venues: Mapping[str, TradedVenue]
    now_ms: Callable[[], int]
    publication: Publication = field(factory=Publication)
    most_entries: int = _MOST_ENTRIES
    """The largest page of a listing."""
    _made: OrderedDict[str, bytes] = field(init=False, factory=OrderedDict)
    _making: trio.Lock = field(init=False, factory=trio.Lock)

    async def answer(
        self, method: str, target: str, headers: Mapping[str, str]
    ) -> ArchiveAnswer | None:
        """Answer a request; names of `headers` are in lower case. None: reset the connection."""
        url = urlsplit(target)
        path = unquote(url.path)
        for name in (PATH, f"/{bucket.NAME}"):
            if path == name or path.startswith(f"{name}/"):
                path = path.removeprefix(name)
        key, query = path.removeprefix("/"), dict(parse_qsl(url.query, keep_blank_values=True))
        if method not in {"GET", "HEAD"}:
            text = bucket.error_answer("MethodNotAllowed", "This method is not allowed.", key)
            return ArchiveAnswer(status=405, headers=(XML,), body=text)
        answer = await self._object(key, headers) if key else self._listing(query)
        length = ("Content-Length", str(len(answer.body)))
        body = b"" if method == "HEAD" else answer.body
        return evolve(answer, headers=(*answer.headers, length), body=body)

    def _listing(self, query: Mapping[str, str]) -> ArchiveAnswer:
        try:
            body = bucket.list_bucket(self._bucket(), query, self.most_entries)
        except ValueError:
            text = bucket.error_answer("InvalidArgument", "A parameter is not valid.", "")
            return ArchiveAnswer(status=400, headers=(XML,), body=text)
        return ArchiveAnswer(status=200, headers=(XML,), body=body)

    async def _object(self, path: str, headers: Mapping[str, str]) -> ArchiveAnswer:
        found = self._bucket().find(path)
        if found is None:
            return not_found(path)
        key, stored = found
        content = await self._zip(key)
        if path.endswith(CHECKSUM):
            content = zipped.checksum_of(key, content).encode()
        return answer_object(stored, content, headers)

    def _bucket(self) -> MadeTree:
        return MadeTree(venues=self.venues, publication=self.publication, now_ms=self.now_ms())

    async def _zip(self, key: TwinFile) -> bytes:
        """The zip of a file, made when it is first asked for."""
        async with self._making:
            if key.path not in self._made:
                self._made[key.path] = await self._make(key)
                while sum(map(len, self._made.values())) > _KEPT_BYTES and len(self._made) > 1:
                    self._made.popitem(last=False)
            self._made.move_to_end(key.path)
            return self._made[key.path]

    async def _make(self, key: TwinFile) -> bytes:
        venue = self.venues[key.venue_name]
        close_of = key.interval.close_of
        rows = []
        for candle in venue.candles(key):
            rows.append(FileRow(candle, close_of(candle.open_time)))
            if not len(rows) % _ROWS_AT_ONCE:
                await trio.lowlevel.checkpoint()
        text = HEADER if has_header(key) else ""
        text += text_of(venue.listings[key.symbol], rows, microseconds=in_microseconds(key))
        size = zipped.size_of(key, sum(1 for _ in venue.opens(key)))
        written = day_of(self.publication.time_of(key))
        return zipped.zip_of(key, text.encode(), size, written)


def archive_of(exchanges: Mapping[str, Exchange]) -> PublicArchive:
    """Make the archive of exchanges, which share a clock."""
    venues = {
        name: TradedVenue(aggregator=each.rest.aggregator) for name, each in exchanges.items()
    }
    clock = next(iter(exchanges.values())).clock
    return PublicArchive(venues=venues, now_ms=clock.now_ms)
