"""Zips of exactly the size that the listing had before they were made. Pure.

A listing of years would otherwise have to make every file that it names. The deflate stream is
filled up with empty blocks, which every reader skips.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from datetime import date

from klineagent.twin.archive.key import TwinFile

# An empty stored block of five bytes, an empty fixed and a stored one of six, and the final block.
_FIVE, _SIX, _FINAL = b"\0\0\0\xff\xff", b"\x02\0\0\0\xff\xff", b"\x03\0"
# Any number from here on is a sum of fives and sixes.
_LEAST_FILLING = 20
_MADE_BY_UNIX, _NEEDS, _DEFLATED, _OWNER_MAY_READ = 3 << 8 | 20, 20, 8, 0o600 << 16
# A row of a made-up day is 36 to 55 bytes when compressed; those of a month are smaller.
_ROW_BYTES = 60
_MOST_OF_A_FILE_S_OWN = 2_048
_LEVELS = (1, 9)


def size_of(key: TwinFile, rows: int) -> int:
    """The size of the zip of a file with at most `rows` rows."""
    return _frame_size(key) + _MOST_OF_A_FILE_S_OWN + _ROW_BYTES * rows


def checksum_size(key: TwinFile) -> int:
    """The size of a file's checksum."""
    return len(checksum_of(key, b"").encode())


def checksum_of(key: TwinFile, content: bytes) -> str:
    """The line of a file's checksum, as `sha256sum` writes it."""
    return f"{hashlib.sha256(content).hexdigest()}  {key.stem}.zip\n"


def zip_of(key: TwinFile, text: bytes, size: int, written: date) -> bytes:
    """Zip the CSV of a file, to `size` bytes if that is enough for it."""
    room = size - _frame_size(key) - len(_FINAL)
    for level in _LEVELS:
        deflating = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
        deflated = deflating.compress(text) + deflating.flush(zlib.Z_SYNC_FLUSH)
        if len(deflated) + _LEAST_FILLING <= room:
            deflated += _filling(room - len(deflated))
            break
    deflated += _FINAL
    name = f"{key.stem}.csv".encode()
    day = (written.year - 1980) << 9 | written.month << 5 | written.day
    # The flag that says that the name is UTF-8.
    flags = 0 if name.isascii() else 0x800
    common = struct.pack(
        "<HHHHHIIIHH",
        *(_NEEDS, flags, _DEFLATED, 0, day),
        *(zlib.crc32(text), len(deflated), len(text), len(name), 0),
    )
    head = b"PK\3\4" + common + name + deflated
    entry = b"PK\1\2" + struct.pack("<H", _MADE_BY_UNIX) + common
    entry += struct.pack("<HHHII", 0, 0, 0, _OWNER_MAY_READ, 0) + name
    end = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(entry), len(head), 0)
    return head + entry + end


def no_zip(size: int) -> bytes:
    """What stands where a zip should."""
    return b"<html><body><h1>502 Bad Gateway</h1></body></html>".ljust(size)


def _frame_size(key: TwinFile) -> int:
    return 30 + 46 + 22 + 2 * len(f"{key.stem}.csv".encode())


def _filling(size: int) -> bytes:
    sixes = size % 5
    return _SIX * sixes + _FIVE * ((size - 6 * sixes) // 5)
