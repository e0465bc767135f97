"""Coalescing of many small websocket frames before the websocket library sees them. Pure.

A websocket library spends 8 to 40 us on each frame. Here every run of text frames found in one read
is put aside, and the library sees one small frame in its place: a ticket, for which the run is
redeemed later. Everything else passes byte for byte: the handshake, control frames, fragments,
binary and large frames. So do frames that break the protocol (RFC 6455), which the library reports.
"""

from __future__ import annotations

import re
import secrets
import struct
from collections import deque

from attrs import define, field

# First bytes of a frame: FIN and opcode.
_TEXT, _BINARY, _LAST_FRAGMENT = 0x81, 0x82, 0x80
_CONTROL = frozenset({0x88, 0x89, 0x8A})
_FRAGMENTS = frozenset({0x00, 0x01, 0x02, _LAST_FRAGMENT})
_KNOWN = frozenset({_TEXT, _BINARY}) | _CONTROL | _FRAGMENTS
# Second byte: a length below 126, or the mark of a length in 2 or 8 bytes.
_IN_2_BYTES, _IN_8_BYTES, _MASKED = 126, 127, 128

# The same pattern as that of h11, which reads the handshake.
_END_OF_HANDSHAKE = re.compile(rb"\n\r?\n")
_UPGRADED = b"HTTP/1.1 101"
_SHORT_HEADER, _LONG_HEADER = 2, 4
_LONG_TEXT = _TEXT << 8 | _IN_2_BYTES
_read_header = struct.Struct(">HH").unpack_from  # for any frame, with a long length or without
# Results in place of the position where a frame ends.
_UNKNOWN, _BROKEN = -1, -2
# The exchange's frames have some 350 bytes. Frames beyond this size pass piece by piece.
LONGEST_FRAME = 64 * 1024
LONGEST_HANDSHAKE = 64 * 1024
# Long enough that it cannot be guessed, and no message of the exchange is taken for a ticket.
_TICKET_BYTES = 16


@define(eq=False)
class Coalescing:
    """Coalesces the frames that one client connection receives."""

    _unread: bytes = field(default=b"", init=False)
    """The beginning of a frame that is not complete yet."""
    _handshake: bytes = field(default=b"", init=False)
    """The part of the handshake that has arrived: a read may end within its end mark."""
    _is_upgraded: bool = field(default=False, init=False)
    _passing: int = field(default=0, init=False)
    """The number of bytes of a large frame that have yet to arrive."""
    _is_fragmented: bool = field(default=False, init=False)
    _is_broken: bool = field(default=False, init=False)
    """Whether the peer broke the protocol; from then on everything passes unchanged."""
    _ticket: bytes = field(factory=lambda: secrets.token_bytes(_TICKET_BYTES), init=False)
    _aside: deque[list[bytes]] = field(factory=deque, init=False)
    """Runs whose tickets are still in the library. They are few, because it hands over all messages
    of one read before the next."""

    def redeem(self, message: str | bytes) -> list[bytes]:
        """Return the texts for which a `message` stands; call it in the library's order."""
        if isinstance(message, str):
            return [message.encode()]
        return self._aside.popleft() if message == self._ticket else [message]

    def feed(self, received: bytes | bytearray) -> bytes:
        """Take received bytes; return those that the library should see, perhaps none."""
        if self._is_broken:
            return bytes(received)
        if not self._is_upgraded:
            return self._shake_hands(bytes(received))
        data = self._unread + received if self._unread else bytes(received)
        self._unread = b""
        return self._merge(data, 0)

    def _shake_hands(self, data: bytes) -> bytes:
        seen = len(self._handshake)
        self._handshake += data
        end = _END_OF_HANDSHAKE.search(self._handshake)
        is_endless = end is None and len(self._handshake) > LONGEST_HANDSHAKE
        if is_endless or not _UPGRADED.startswith(self._handshake[: len(_UPGRADED)]):
            return self._give_up(data, 0)
        if end is None:
            return data
        self._is_upgraded = True
        self._handshake = b""
        return self._merge(data, end.end() - seen)

    def _give_up(self, data: bytes, at: int) -> bytes:
        self._is_broken = True
        return data[at:]

    def _merge(self, data: bytes, at: int) -> bytes:
        """Pass everything before `at`, and coalesce the frames that begin there."""
        if self._passing:
            at = min(self._passing, len(data))
            self._passing -= at
        out = [data[:at]]
        while True:
            if not self._is_fragmented:
                texts, run_end = _texts_at(data, at)
                if len(texts) > 1 and _are_utf8(texts):
                    self._aside.append(texts)
                    out.append(bytes((_BINARY, _TICKET_BYTES)) + self._ticket)
                else:
                    out.append(data[at:run_end])
                at = run_end
            after = _end_of_frame(data, at)
            if after == _BROKEN:
                out.append(self._give_up(data, at))
                break
            if after == _UNKNOWN or len(data) < after <= at + LONGEST_FRAME:
                self._unread = data[at:]
                break
            if data[at] in _FRAGMENTS:
                self._is_fragmented = data[at] != _LAST_FRAGMENT
            out.append(data[at:after])
            self._passing = max(0, after - len(data))
            at = min(after, len(data))
        return b"".join(out)


def _texts_at(data: bytes, at: int) -> tuple[list[bytes], int]:
    """Return the texts of the complete text frames at `at`, and where they end."""
    # The hot path: some 0.1 us for each of 36,000 frames a second.
    texts: list[bytes] = []
    size = len(data)
    last = size - _LONG_HEADER
    while at <= last:
        kind, length = _read_header(data, at)
        start = at + _LONG_HEADER
        if kind != _LONG_TEXT:
            start, length = at + _SHORT_HEADER, kind & 0xFF
            if kind >> 8 != _TEXT or length >= _IN_2_BYTES:
                break
        elif length < _IN_2_BYTES:
            break
        after = start + length
        if after > size:
            break
        texts.append(data[start:after])
        at = after
    return texts, at


def _end_of_frame(data: bytes, at: int) -> int:
    """Return where the frame at `at` ends; `_UNKNOWN` if its header is incomplete, or `_BROKEN`."""
    if len(data) < at + _SHORT_HEADER:
        return _UNKNOWN
    first, length = data[at], data[at + 1]
    # Servers must not mask, nor send long control frames, nor write a length in too many bytes.
    if first not in _KNOWN or length >= _MASKED or (first in _CONTROL and length >= _IN_2_BYTES):
        return _BROKEN
    if length < _IN_2_BYTES:
        return at + _SHORT_HEADER + length
    size, least = (2, _IN_2_BYTES) if length == _IN_2_BYTES else (8, 1 << 16)
    start = at + _SHORT_HEADER + size
    if len(data) < start:
        return _UNKNOWN
    length = int.from_bytes(data[start - size : start])
    return start + length if length >= least else _BROKEN


def _are_utf8(texts: list[bytes]) -> bool:
    """Whether all `texts` are valid UTF-8; the library gets, and refuses, those that are not."""
    if all(map(bytes.isascii, texts)):
        return True
    try:
        for text in texts:
            text.decode()
    except UnicodeDecodeError:
        return False
    return True
