"""Zip files of the archive: one CSV each, which databases read as gzip. Pure.

A member of a zip is a gzip file but for its head and tail, so it is rewrapped as it is; its
length and its CRC are checked when it is inflated.
"""

from __future__ import annotations

import hashlib
import io
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator

from attrs import field, frozen

_HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_LOCAL_NAMES = struct.Struct("<26xHH")
_TAIL = struct.Struct("<II")
_DIGEST = re.compile(r"\s*([0-9a-fA-F]{64})\b")
_INFLATED_AT_ONCE = 1024**2


class FileDamaged(Exception):
    """A file is not what the archive promises; the text says why, in words for a record."""


@frozen
class Member:
    """The CSV of a file, compressed as gzip has it."""

    gz: bytes = field(repr=False)
    has_header: bool


def sha256_of(content: bytes) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def sha256_in(checksum: bytes) -> str:
    """Return the SHA-256 in a .CHECKSUM file.

    Raises:
        FileDamaged: there is none in it.
    """
    found = _DIGEST.match(checksum[:200].decode(errors="replace"))
    if found is None:
        raise FileDamaged("its CHECKSUM cannot be read")
    return found[1].lower()


def member_of(content: bytes, *, most_bytes: int) -> Member:
    """Rewrap the one CSV in a zip file, which is `most_bytes` long at the most.

    Raises:
        FileDamaged: it is no zip file, or has not one CSV, or that cannot be inflated, or is not
            what the zip file says.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = [each for each in archive.infolist() if not each.is_dir()]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise FileDamaged(f"it is no zip file: {error}") from error
    if len(members) != 1:
        raise FileDamaged(f"it holds {len(members)} files instead of one")
    [info] = members
    if info.compress_type not in {zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED} or info.flag_bits & 1:
        raise FileDamaged("it is compressed in another way than the archive's files")
    if info.file_size > most_bytes:
        raise FileDamaged(f"it would have {info.file_size} bytes, more than candles take")
    try:
        names = _LOCAL_NAMES.unpack_from(content, info.header_offset)
    except struct.error as error:
        raise FileDamaged("it is cut") from error
    begin = info.header_offset + _LOCAL_NAMES.size + sum(names)
    packed = content[begin : begin + info.compress_size]
    if len(packed) != info.compress_size:
        raise FileDamaged("it is cut")
    if info.compress_type == zipfile.ZIP_STORED:
        packed = _deflated(packed)
    gz = _HEAD + packed + _TAIL.pack(info.CRC, info.file_size)
    # To its end, before a database inflates it, which believes what it finds.
    first, *_ = [piece[:1] for piece in _pieces(gz, info.file_size)]
    return Member(gz, has_header=bool(first) and not first.isdigit())


def inflated(gz: bytes) -> bytes:
    """Return the CSV of a `Member`.

    Raises:
        FileDamaged: it cannot be inflated, or is not what was once packed.
    """
    return b"".join(_pieces(gz, _TAIL.unpack(gz[-_TAIL.size :])[1]))


def _pieces(gz: bytes, size: int) -> Iterator[bytes]:
    """Inflate piece by piece, and no more than the `size` that is promised.

    Raises:
        FileDamaged: as of `inflated`.
    """
    inflate = zlib.decompressobj(wbits=31)
    try:
        while not inflate.eof:
            piece = inflate.decompress(inflate.unconsumed_tail or gz, _INFLATED_AT_ONCE)
            gz, size = b"", size - len(piece)
            if size < 0 or (not piece and not inflate.eof):
                raise FileDamaged("it is not as long as it says")
            yield piece
    except zlib.error as error:
        raise FileDamaged(f"it cannot be inflated: {error}") from error


def _deflated(stored: bytes) -> bytes:
    deflate = zlib.compressobj(1, wbits=-15)
    return deflate.compress(stored) + deflate.flush()
