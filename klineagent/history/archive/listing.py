"""Pages of the archive's listing, as its object storage writes them. Pure.

A document type or an entity is refused, for nothing here needs one: so no page grows when it is
read.
"""

from __future__ import annotations

from datetime import UTC, datetime
from xml.parsers import expat

from attrs import define, field, frozen

from klineagent.core.errors import BadFrame
from klineagent.core.interval import SECOND_MS

MOST_BYTES = 4 * 1024**2
"""A page has a thousand entries of some 400 bytes."""
_MOST_DEPTH = 8


@frozen
class Entry:
    """An object in the listing."""

    key: str
    size: int
    etag: str
    modified: int
    """In milliseconds."""


@frozen
class ListingPage:
    """One page of a listing, and where the next one begins; empty if this is the last."""

    entries: tuple[Entry, ...]
    folders: tuple[str, ...]
    marker: str


def read_page(body: bytes) -> ListingPage:
    """Read one answer of the object storage.

    Raises:
        BadFrame: it is no listing.
    """
    if len(body) > MOST_BYTES:
        raise BadFrame(f"a page of the archive's listing has {len(body)} bytes")
    reader = _Reader()
    parser = expat.ParserCreate()
    parser.StartElementHandler = reader.begin
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.StartDoctypeDeclHandler = reader.refuse
    parser.EntityDeclHandler = reader.refuse
    try:
        parser.Parse(body, True)
        return reader.page()
    except (expat.ExpatError, ValueError, KeyError) as error:
        raise BadFrame(f"the archive's listing cannot be read: {error}") from error


@define
class _Reader:
    """Gathers what the parser finds."""

    _way: list[str] = field(factory=list)
    _text: list[str] = field(factory=list)
    _current: dict[str, str] = field(factory=dict)
    _entries: list[Entry] = field(factory=list)
    _folders: list[str] = field(factory=list)
    _top: dict[str, str] = field(factory=dict)

    def refuse(self, *_: object) -> None:
        raise ValueError("it declares a document type")

    def begin(self, name: str, _: object) -> None:
        if len(self._way) == _MOST_DEPTH:
            raise ValueError("it is nested too deeply")
        self._way.append(name.rpartition(":")[2])
        self._text.clear()

    def text(self, text: str) -> None:
        self._text.append(text)

    def end(self, _: str) -> None:
        name, text = self._way.pop(), "".join(self._text)
        match [*self._way[1:], name]:
            case ["Contents"]:
                self._entries.append(_entry(self._current))
                self._current.clear()
            case ["Contents", _]:
                self._current[name] = text
            case ["CommonPrefixes", "Prefix"]:
                self._folders.append(text)
            case [_]:
                self._top[name] = text
        self._text.clear()
        if not self._way and name != "ListBucketResult":
            raise ValueError(f"it is a {name}")

    def page(self) -> ListingPage:
        marker = ""
        if self._top.get("IsTruncated") == "true":
            last = self._entries[-1].key if self._entries else ""
            marker = self._top.get("NextMarker") or max([last, *self._folders])
            if not marker:
                raise ValueError("it goes on, and does not say where")
        return ListingPage(tuple(self._entries), tuple(self._folders), marker)


def _entry(values: dict[str, str]) -> Entry:
    modified = datetime.fromisoformat(values["LastModified"])
    if modified.tzinfo is None:
        modified = modified.replace(tzinfo=UTC)
    return Entry(
        values["Key"],
        int(values["Size"]),
        values.get("ETag", "").strip('"'),
        int(modified.timestamp() * SECOND_MS),
    )
