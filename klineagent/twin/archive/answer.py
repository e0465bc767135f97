"""An answer of the archive: with conditions and ranges, and as slow as it is to be."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from email.utils import formatdate

from attrs import frozen

from klineagent.twin.archive.bucket import Stored, error_answer
from klineagent.twin.interval import SECOND_MS

XML = ("Content-Type", "application/xml")
_ZIP = ("Content-Type", "application/zip")
_RANGE = re.compile(r"bytes=([0-9]*)-([0-9]*)")
_PIECE_BYTES = 64 * 1024


@frozen(kw_only=True)
class ArchiveAnswer:
    """An HTTP answer; its body may come slowly, or end early."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""
    bytes_per_s: float = float("inf")
    sent_bytes: int | None = None
    """How much of the body is sent before the connection is reset; None for all of it."""

    @property
    def is_cut(self) -> bool:
        """Whether the connection is reset before the end of the body."""
        return self.sent_bytes is not None

    def pieces(self) -> Iterator[tuple[float, bytes]]:
        """Yield the part of the body that is sent, and how many seconds each piece takes."""
        body = self.body[: self.sent_bytes]
        for start in range(0, len(body), _PIECE_BYTES):
            piece = body[start : start + _PIECE_BYTES]
            yield len(piece) / self.bytes_per_s, piece


def not_found(key: str) -> ArchiveAnswer:
    """The answer for a key that does not exist."""
    text = error_answer("NoSuchKey", "The specified key does not exist.", key)
    return ArchiveAnswer(status=404, headers=(XML,), body=text)


def answer_object(stored: Stored, content: bytes, headers: Mapping[str, str]) -> ArchiveAnswer:
    """Answer a request for an object: all of it, the range that is asked for, or 304."""
    etag = f'"{stored.etag}"'
    modified = formatdate(stored.modified_ms // SECOND_MS, usegmt=True)
    sent: tuple[tuple[str, str], ...] = (
        ("ETag", etag),
        ("Last-Modified", modified),
        ("Accept-Ranges", "bytes"),
    )
    if headers.get("if-none-match") == etag:
        return ArchiveAnswer(status=304, headers=sent)
    sent += (_ZIP if stored.key.endswith(".zip") else ("Content-Type", "binary/octet-stream"),)
    match = _RANGE.fullmatch(headers.get("range", ""))
    if (
        match is None
        or match.groups() == ("", "")
        or headers.get("if-range", etag) not in {etag, modified}
    ):
        return ArchiveAnswer(status=200, headers=sent, body=content)
    first, last, size = *match.groups(), len(content)
    start = int(first) if first else max(0, size - int(last))
    end = min(size, int(last) + 1) if first and last else size
    if start >= end:
        text = error_answer("InvalidRange", "The requested range is not satisfiable", stored.key)
        outside = (XML, ("Content-Range", f"bytes */{size}"))
        return ArchiveAnswer(status=416, headers=outside, body=text)
    sent += (("Content-Range", f"bytes {start}-{end - 1}/{size}"),)
    return ArchiveAnswer(status=206, headers=sent, body=content[start:end])
