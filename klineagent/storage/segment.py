"""The file of one batch: written once, read whole, checked to the last bit. Pure.

    magic 4 | format u16 | length u32 | crc32 u32 | payload

The payload is [table, token, reason, rows] in MessagePack, deflated. The length is the payload's;
the checksum is over all but itself.
"""

from __future__ import annotations

import re
import secrets
import struct
import zlib

import msgspec
from attrs import frozen

from klineagent.errors import UNREADABLE, SegmentDamaged
from klineagent.kline import Kline
from klineagent.storage.store import Batch, Table

SUFFIX = ".seg"
# Rows are stored by position: another number of columns, or another order, is another format.
FORMAT = 1
_MAGIC = b"KLSG"
_CHECKED = struct.Struct("<4sHI")
_CHECKSUM = struct.Struct("<I")
_HEADER_SIZE = _CHECKED.size + _CHECKSUM.size
# Less than half the bytes for 1.4 us a row; higher levels cost more than they save.
_LEVEL = 1

_NAME = re.compile(r"(\d{8})-(\d{8})-[0-9a-f]{8}-(\d+)\.seg")


@frozen
class Contents:
    """What a segment holds."""

    batch: Batch
    reason: str = ""
    """Why the batch was set aside, if it was."""


class _Payload(msgspec.Struct, array_like=True):
    table: Table
    token: str
    reason: str
    rows: tuple[Kline, ...]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Payload).decode


def encode(contents: Contents) -> bytes:
    """The file that holds `contents`."""
    batch = contents.batch
    rows = _encode(_Payload(batch.table, batch.token, contents.reason, batch.klines))
    payload = zlib.compress(rows, _LEVEL)
    checked = _CHECKED.pack(_MAGIC, FORMAT, len(payload))
    return checked + _CHECKSUM.pack(_checksum(checked, payload)) + payload


def decode(data: bytes) -> Contents:
    """What the file `data` holds.

    Raises:
        SegmentDamaged: it is not what `encode` made; says in which way.
    """
    if len(data) < _HEADER_SIZE:
        raise SegmentDamaged(f"cut short in its header, after {len(data)} bytes")
    checked, payload = data[: _CHECKED.size], data[_HEADER_SIZE:]
    magic, file_format, length = _CHECKED.unpack(checked)
    (checksum,) = _CHECKSUM.unpack(data[_CHECKED.size : _HEADER_SIZE])
    if magic != _MAGIC:
        raise SegmentDamaged("it does not begin as a segment does")
    if file_format != FORMAT:
        raise SegmentDamaged(f"it is of format {file_format}, this version reads {FORMAT}")
    if length != len(payload):
        raise SegmentDamaged(f"it has {len(payload)} of {length} bytes")
    if checksum != _checksum(checked, payload):
        raise SegmentDamaged("its checksum is wrong")
    try:
        held = _decode(zlib.decompress(payload))
    except (zlib.error, *UNREADABLE) as error:
        raise SegmentDamaged(f"its rows cannot be read: {error}") from error
    return Contents(Batch(held.token, held.rows, held.table), held.reason)


def _checksum(checked: bytes, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(checked))


def new_name(boot: int, number: int, rows: int) -> str:
    """A name for the segment of so many rows; names sort as segments were made.

    No name comes twice, even if the counters do.
    """
    return f"{boot:08d}-{number:08d}-{_unique()}-{rows}{SUFFIX}"


def renewed_name(name: str) -> str:
    """Another name for the same rows, in the same place of the order.

    A name that somebody else gave stays what it is.
    """
    found = _NAME.fullmatch(name)
    return new_name(int(found[1]), int(found[2]), int(found[3])) if found else name


def boot_of(name: str) -> int:
    """In which run of an agent the segment was made; 0 if it does not tell."""
    found = _NAME.fullmatch(name)
    return int(found[1]) if found else 0


def rows_of(name: str) -> int:
    """How many rows the segment holds; 0 if its name does not tell."""
    found = _NAME.fullmatch(name)
    return int(found[3]) if found else 0


def _unique() -> str:
    return secrets.token_hex(4)
