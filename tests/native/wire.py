"""The atoms of ClickHouse's native protocol: varints, strings, little-endian integers."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

_INT32 = struct.Struct("<i")
_UINT64 = struct.Struct("<Q")
# Ten groups of seven bits hold 64; a longer number is no number but a stream out of step.
_VARINT_BYTES_MAX = 10


class WireError(Exception):
    """The client said something this server cannot read, so the connection is lost."""


class Source(Protocol):
    """A blocking byte stream, buffered: it returns less than asked only at its end."""

    def read(self, size: int, /) -> bytes:
        """Read `size` bytes."""


class WireReader:
    """Reads atoms from a `Source`; every method raises `EOFError` where it ends."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._tape: bytearray | None = None

    @contextmanager
    def taped(self) -> Iterator[bytearray]:
        """Keep a copy of every byte read inside the `with` block."""
        self._tape = bytearray()
        try:
            yield self._tape
        finally:
            self._tape = None

    def take(self, size: int) -> bytes:
        """Read exactly `size` bytes."""
        data = self._source.read(size)
        if len(data) < size:
            raise EOFError
        if self._tape is not None:
            self._tape += data
        return data

    def uint8(self) -> int:
        """Read one byte as a number."""
        return self.take(1)[0]

    def uint64(self) -> int:
        """Read eight bytes as a number."""
        return int(_UINT64.unpack(self.take(_UINT64.size))[0])

    def varint(self) -> int:
        """Read an unsigned LEB128 number."""
        number = 0
        for position in range(_VARINT_BYTES_MAX):
            byte = self.uint8()
            number |= (byte & 0x7F) << 7 * position
            if byte < 0x80:
                return number
        raise WireError("a varint has more than ten bytes")

    def string(self) -> str:
        """Read a UTF-8 string that follows its length."""
        try:
            return self.take(self.varint()).decode()
        except UnicodeDecodeError as error:
            raise WireError(f"a string is not UTF-8: {error}") from error

    def varints(self, count: int) -> list[int]:
        """Read `count` varints."""
        return [self.varint() for _ in range(count)]

    def strings(self, count: int) -> list[str]:
        """Read `count` strings."""
        return [self.string() for _ in range(count)]


def varint(number: int) -> bytes:
    """Write an unsigned LEB128 number."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def string(text: str) -> bytes:
    """Write a UTF-8 string after its length."""
    data = text.encode()
    return varint(len(data)) + data


def int32(number: int) -> bytes:
    """Write a signed number of four bytes."""
    return _INT32.pack(number)
