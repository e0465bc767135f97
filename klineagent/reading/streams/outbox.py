"""What waits for one client's socket: bounded, and newer states replace older ones."""

from __future__ import annotations

from collections.abc import Callable

import trio
from attrs import define, field

# As many closing events as may pile up behind a client that is being sent to. At 33,000 streams a
# minute's close brings more, but a client may have 1,024.
MOST_CLOSED = 1_000
# A list of 1,024 streams takes 70 kB at the most, and a client may ask for ten a second.
MOST_ANSWER_BYTES = 1_000_000


@define(eq=False)
class Outbox:
    """Holds frames for one client, in the order in which each stream needs them.

    Answers to requests go first. Of a forming candle only the newest state waits. Answers and
    closing events all wait, up to `MOST_ANSWER_BYTES` and `MOST_CLOSED` while the socket takes
    nothing; then the client is too slow.
    """

    _soon: Callable[[Outbox], None]
    """Called when something waits that must be sent at once."""
    _later: Callable[[Outbox], None]
    """Called when something waits, and nothing did."""
    _send_now: Callable[[bytes], bytes]
    """Sends what the socket takes without waiting; returns the rest."""
    _too_slow: Callable[[], None]
    is_sending: bool = field(default=False, init=False)
    """Whether the socket has not taken yet what was taken from here."""
    _is_due_soon: bool = field(default=False, init=False)
    _is_due_later: bool = field(default=False, init=False)
    _answers: list[bytes] = field(factory=list, init=False)
    _answer_bytes: int = field(default=0, init=False)
    _closed: list[bytes] = field(factory=list, init=False)
    _forming: dict[object, bytes] = field(factory=dict, init=False)
    """By stream."""
    _rest: bytes = field(default=b"", init=False)
    _wake: trio.Event = field(factory=trio.Event, init=False)
    _is_closed: bool = field(default=False, init=False)

    def answer(self, frame: bytes) -> None:
        """Take an answer or a control frame."""
        if not self._is_closed:
            self._answers.append(frame)
            self._answer_bytes += len(frame)
            self.hurry()
            if self.is_sending and self._answer_bytes > MOST_ANSWER_BYTES:
                self._drop_answers()
                self._too_slow()

    def put(self, stream: object, frame: bytes, *, is_closing: bool) -> None:
        """Take an event of `stream`."""
        if self._is_closed:
            return
        if is_closing:
            self._forming.pop(stream, None)
            self._closed.append(frame)
            self.hurry()
            if self.is_sending and len(self._closed) > MOST_CLOSED:
                self._too_slow()
        else:
            self._forming[stream] = frame
            if not self._is_due_later:
                self._is_due_later = True
                self._later(self)

    def drop_events(self) -> None:
        """Drop all events that wait."""
        self._closed.clear()
        self._forming.clear()

    def _drop_answers(self) -> None:
        self._answers.clear()
        self._answer_bytes = 0

    def forget(self, stream: object) -> None:
        """Drop the state of `stream` that waits."""
        self._forming.pop(stream, None)

    def flush(self) -> None:
        """Send what waits as far as the socket takes it now, and leave the rest to `take`.

        Unless something is being sent: then it follows.
        """
        if not self.is_sending and (self._answers or self._closed or self._forming):
            self._rest = self._send_now(self._all())
            if self._rest:
                self.is_sending = True
                self._wake.set()

    def close(self) -> None:
        """Send what waits, and nothing after it."""
        self._is_closed = True
        self._wake.set()

    async def take(self) -> bytes:
        """Wait for what the socket did not take at once; nothing once closed and empty."""
        self._rest = self._rest or self._all()
        while not self._rest and not self._is_closed:
            self.is_sending = False
            self._wake = trio.Event()
            await self._wake.wait()
            self._rest = self._rest or self._all()
        self.is_sending = True
        frames, self._rest = self._rest, b""
        return frames

    def _all(self) -> bytes:
        frames = b"".join([*self._answers, *self._closed, *self._forming.values()])
        self._drop_answers()
        self.drop_events()
        self._is_due_soon = self._is_due_later = False
        return frames

    def hurry(self) -> None:
        """Let what waits be sent at once."""
        if not self._is_due_soon:
            self._is_due_soon = True
            self._soon(self)
