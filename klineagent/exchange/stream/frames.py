"""Many small websocket messages to a few large ones, on the way from the exchange. Pure.

A library for websockets works once per frame, at 8 to 40 us each. Here every run of text frames
found in one read is put aside, and the library sees a single small frame in its place: a ticket,
with which the run is redeemed. All else goes through byte for byte: the handshake, control frames,
fragments, binary and large frames. So do frames that break the protocol (RFC 6455): it is for the
library to say so.
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
# Second byte: a length below 126, or the sign of one in 2 or 8 bytes.
_IN_2_BYTES, _IN_8_BYTES, _MASKED = 126, 127, 128

# As h11 has it, which reads the handshake.
_END_OF_HANDSHAKE = re.compile(rb"\n\r?\n")
_UPGRADED = b"HTTP/1.1 101"
_SHORT_HEADER, _LONG_HEADER = 2, 4
_LONG_TEXT = _TEXT << 8 | _IN_2_BYTES
_read_header = struct.Struct(">HH").unpack_from  # of any frame, whether that has a length there
# In place of where a frame ends.
_UNKNOWN, _BROKEN = -1, -2
# The exchange's frames have some 350 bytes. One beyond this goes through piece by piece.
LONGEST_FRAME = 64 * 1024
LONGEST_HANDSHAKE = 64 * 1024
# Nobody guesses it, so that no message of the exchange is taken for a ticket.
_TICKET_BYTES = 16


@define(eq=False)
class Coalescing:
    """The state of one connection, seen from its client."""

    _unread: bytes = field(default=b"", init=False)
    """The beginning of a frame that is not whole yet."""
    _handshake: bytes = field(default=b"", init=False)
    """What has come of it, for its end may be cut in two."""
    _is_upgraded: bool = field(default=False, init=False)
    _passing: int = field(default=0, init=False)
    """Bytes of a large frame that are still to come."""
    _is_fragmented: bool = field(default=False, init=False)
    _is_broken: bool = field(default=False, init=False)
    """Whether something was seen that no exchange sends: from then on all goes through."""
    _ticket: bytes = field(factory=lambda: secrets.token_bytes(_TICKET_BYTES), init=False)
    _aside: deque[list[bytes]] = field(factory=deque, init=False)
    """Runs whose ticket is still on its way through the library; it reads on after it has handed
    over what a read has brought, so they are few."""

    def redeem(self, message: str | bytes) -> list[bytes]:
        """The texts for which a `message` of the library stands, in the order it gives them."""
        if isinstance(message, str):
            return [message.encode()]
        return self._aside.popleft() if message == self._ticket else [message]

    def feed(self, received: bytes | bytearray) -> bytes:
        """What has come becomes what the library is to see, if anything yet."""
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
        """Everything before `at` goes through; from there on frames begin."""
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
    """The text frames at `at` that are whole, and where they end."""
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
    """Where the frame at `at` ends; `_UNKNOWN` without its header, `_BROKEN` if it is none."""
    if len(data) < at + _SHORT_HEADER:
        return _UNKNOWN
    first, length = data[at], data[at + 1]
    # No server masks, nor sends long control frames, nor uses more bytes for a length than it must.
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
    """Whether the library would take them for texts; it is the one to refuse what is none."""
    if all(map(bytes.isascii, texts)):
        return True
    try:
        for text in texts:
            text.decode()
    except UnicodeDecodeError:
        return False
    return True
