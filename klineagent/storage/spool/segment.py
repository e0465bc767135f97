"""The file format of one batch, with a checksum. Pure.

    magic 4 | format u16 | length u32 | crc32 u32 | writer's length u8 | writer | payload

The writer is the version of klineagent that wrote the file. Everything before the payload is the
same in all future formats, so that an older version can say which version reads the file. The
payload is [table, token, reason, rows] in MessagePack, deflated. The length counts all bytes after
the checksum, which covers all others. Format 1 has no writer, and rows without the last column.
"""

from __future__ import annotations

import re
import secrets
import struct
import zlib

import msgspec
from attrs import frozen

from klineagent import __version__
from klineagent.core.errors import UNREADABLE, SegmentDamaged, SegmentTooNew
from klineagent.core.kline import Kline
from klineagent.storage.store import Batch, Table

SUFFIX = ".seg"
# Rows are stored by position: a change of the number or order of columns needs a new format.
FORMAT = 2
_WITHOUT_WRITER = 1
_MAGIC = b"KLSG"
_CHECKED = struct.Struct("<4sHI")
_CHECKSUM = struct.Struct("<I")
BEGINNING_SIZE = _CHECKED.size
_HEADER_SIZE = _CHECKED.size + _CHECKSUM.size
# Halves the size for 1.4 us a row; higher levels cost more than they save.
_LEVEL = 1

_NAME = re.compile(r"(\d{8})-(\d{8})-[0-9a-f]{8}-(\d+)\.seg")


@frozen
class Contents:
    """The contents of a segment."""

    batch: Batch
    reason: str = ""
    """Why the batch was refused, if it is a dead letter."""


class _Payload(msgspec.Struct, array_like=True):
    table: Table
    token: str
    reason: str
    rows: tuple[Kline, ...]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Payload).decode


def encode(contents: Contents) -> bytes:
    """Encode `contents` as a file."""
    batch = contents.batch
    rows = _encode(_Payload(batch.table, batch.token, contents.reason, batch.klines))
    writer = __version__.encode()
    rest = bytes([len(writer)]) + writer + zlib.compress(rows, _LEVEL)
    checked = _CHECKED.pack(_MAGIC, FORMAT, len(rest))
    return checked + _CHECKSUM.pack(_checksum(checked, rest)) + rest


def may_be_newer(beginning: bytes) -> bool:
    """Return whether a file's first `BEGINNING_SIZE` bytes announce a newer format."""
    if len(beginning) < BEGINNING_SIZE:
        return False
    magic, file_format, _ = _CHECKED.unpack(beginning[:BEGINNING_SIZE])
    return bool(magic == _MAGIC and file_format > FORMAT)


def decode(data: bytes) -> Contents:
    """Decode the file `data`.

    Raises:
        SegmentDamaged: the file is damaged; the message says how.
        SegmentTooNew: a newer klineagent wrote it; the message says which.
    """
    if len(data) < _HEADER_SIZE:
        raise SegmentDamaged(f"cut short in its header, after {len(data)} bytes")
    checked, rest = data[: _CHECKED.size], data[_HEADER_SIZE:]
    magic, file_format, length = _CHECKED.unpack(checked)
    (checksum,) = _CHECKSUM.unpack(data[_CHECKED.size : _HEADER_SIZE])
    if magic != _MAGIC:
        raise SegmentDamaged("it does not begin as a segment does")
    if length != len(rest):
        raise SegmentDamaged(f"it has {len(rest)} of {length} bytes")
    if checksum != _checksum(checked, rest):
        raise SegmentDamaged("its checksum is wrong")
    begin = 0 if file_format == _WITHOUT_WRITER else 1 + rest[0]
    if file_format > FORMAT:
        writer = rest[1:begin].decode(errors="replace")
        raise SegmentTooNew(
            f"klineagent {writer} wrote it (format {file_format}), and this is {__version__}, which"
            f" reads up to format {FORMAT}: run that version or a newer one"
        )
    payload = rest[begin:]
    try:
        held = _decode(zlib.decompress(payload))
    except (zlib.error, *UNREADABLE) as error:
        raise SegmentDamaged(f"its rows cannot be read: {error}") from error
    return Contents(Batch(held.token, held.rows, held.table), held.reason)


def _checksum(checked: bytes, rest: bytes) -> int:
    return zlib.crc32(rest, zlib.crc32(checked))


def new_name(boot: int, number: int, rows: int) -> str:
    """Make a name for a segment of so many rows; names sort in order of creation.

    Names are unique even if the counters repeat.
    """
    return f"{boot:08d}-{number:08d}-{_unique()}-{rows}{SUFFIX}"


def renewed_name(name: str) -> str:
    """Make another name for the same rows, at the same place in the order.

    A name of another form is returned as it is.
    """
    found = _NAME.fullmatch(name)
    return new_name(int(found[1]), int(found[2]), int(found[3])) if found else name


def boot_of(name: str) -> int:
    """Read from a segment's name in which run of an agent it was made; 0 if it is not there."""
    found = _NAME.fullmatch(name)
    return int(found[1]) if found else 0


def rows_of(name: str) -> int:
    """Read from a segment's name how many rows it holds; 0 if it is not there."""
    found = _NAME.fullmatch(name)
    return int(found[3]) if found else 0


def _unique() -> str:
    return secrets.token_hex(4)
