"""What wsproto reads from coalesced frames is what it reads from plain ones."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence

import pytest
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Pong,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.utilities import RemoteProtocolError

from klineagent.exchange.stream.frames import LONGEST_FRAME, LONGEST_HANDSHAKE, Coalescing

TEXT, BINARY, CLOSE, PING, PONG = 0x81, 0x82, 0x88, 0x89, 0x8A
TEXT_BEGINS, BINARY_BEGINS, CONTINUES, ENDS = 0x01, 0x02, 0x00, 0x80
ACCEPTED = b"HTTP/1.1 101 \r\n\r\n"
# The library can hold back no more than a complete frame.
_ENOUGH = b"\xff" * LONGEST_FRAME


@frozen
class Other:
    """A token for anything but a message."""

    kind: str
    payload: object = b""
    reason: str | None = None


Item = str | bytes | Other
"""A message, or the token of another event."""


def _frame(first: int, payload: bytes = b"") -> bytes:
    """Write a frame as a server sends it."""
    size = len(payload)
    if size < 126:
        return bytes((first, size)) + payload
    if size < 1 << 16:
        return bytes((first, 126)) + size.to_bytes(2) + payload
    return bytes((first, 127)) + size.to_bytes(8) + payload


def _texts(*texts: str) -> bytes:
    return b"".join(_frame(TEXT, text.encode()) for text in texts)


class _Reader:
    """The client's end of a websocket, which joins fragments to messages."""

    def __init__(self) -> None:
        self._client = WSConnection(ConnectionType.CLIENT)
        self._server = WSConnection(ConnectionType.SERVER)
        request = self._client.send(Request(host="exchange.test", target="/stream"))
        self._server.receive_data(request)
        assert isinstance(next(self._server.events()), Request)
        self._parts: list[str | bytes] = []
        self._is_over = False
        self.items: list[Item] = []

    def handshake(self) -> bytes:
        """The response of a server; its length does not depend on the request."""
        return self._server.send(AcceptConnection())

    def read(self, data: bytes) -> None:
        if self._is_over:
            return
        try:
            self._client.receive_data(data)
        except RemoteProtocolError as error:
            self._end(Other("no websocket", str(error)))
        else:
            for event in self._client.events():
                self._take(event)

    def _take(self, event: Event) -> None:
        match event:
            case TextMessage(data=part) | BytesMessage(data=part):
                self._parts.append(part if isinstance(part, str) else bytes(part))
                if event.message_finished:
                    empty = "" if isinstance(part, str) else b""
                    self.items.append(empty.join(self._parts))  # type: ignore[arg-type]  # all alike
                    self._parts.clear()
            case Ping(payload=payload):
                self.items.append(Other("ping", bytes(payload)))
            case Pong(payload=payload):
                self.items.append(Other("pong", bytes(payload)))
            case CloseConnection(code=code, reason=reason):
                # Where in a frame its text is invalid depends on how it was cut.
                said = re.sub(r"can't decode .*", "", reason) if reason else reason
                self._end(Other("close", code, said))
            case AcceptConnection():
                self.items.append(Other("accepted"))
            case RejectConnection(status_code=status):
                self.items.append(Other("rejected", status))
            case RejectData(data=part):
                self._parts.append(bytes(part))
                if event.body_finished:
                    self.items.append(Other("body", [*self._parts]))
            case _:
                raise AssertionError(event)

    def _end(self, event: Other) -> None:
        """After that nothing is read: trio-websocket closes the stream."""
        self.items.append(event)
        self._is_over = True


def _pieces(data: bytes, cuts: Iterable[int]) -> Iterator[bytes]:
    ends = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    return (data[at:end] for at, end in itertools.pairwise(ends))


def _plain(
    frames: bytes, cuts: Sequence[int] = (), *, handshake: bytes | None = None
) -> list[Item]:
    """Item `frames` without coalescing."""
    reader = _Reader()
    for piece in _pieces((reader.handshake() if handshake is None else handshake) + frames, cuts):
        reader.read(piece)
    return reader.items


def _merged(
    frames: bytes, cuts: Sequence[int] = (), *, handshake: bytes | None = None
) -> list[Item]:
    """Item `frames` through coalescing."""
    reader, coalescing = _Reader(), Coalescing()
    sent = (reader.handshake() if handshake is None else handshake) + frames
    for data in _fed(coalescing, _pieces(sent, cuts)):
        reader.read(data)
    return _redeemed(coalescing, reader.items)


def _redeemed(coalescing: Coalescing, read: Iterable[Item]) -> list[Item]:
    """Redeem tickets, and keep everything else."""
    out: list[Item] = []
    for each in read:
        if isinstance(each, Other):
            out.append(each)
            continue
        texts = coalescing.redeem(each)
        if isinstance(each, str):
            assert texts == [each.encode()]
        out += [each] if len(texts) == 1 else [text.decode() for text in texts]
    return out


def _fed(coalescing: Coalescing, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Feed bytes; no more than a frame and a handshake may be held back."""
    longest = 0
    for piece in pieces:
        longest = max(longest, len(piece))
        if data := coalescing.feed(piece):
            yield data
        assert len(coalescing._unread) < LONGEST_FRAME
        assert len(coalescing._handshake) <= LONGEST_HANDSHAKE + longest


def _assert_same(frames: bytes, cuts: Sequence[int], *, handshake: bytes | None = None) -> None:
    plain = _plain(frames, cuts, handshake=handshake)
    assert _merged(frames, cuts, handshake=handshake) == plain


HANDSHAKE_BYTES = len(_Reader().handshake())


@frozen
class Sent:
    """A frame; long content is repeated, so that a failure fits on a screen."""

    first: int
    unit: bytes
    times: int = 1

    def __bytes__(self) -> bytes:
        return _frame(self.first, self.unit * self.times)


def _sent(frames: Iterable[Sent]) -> bytes:
    return b"".join(map(bytes, frames))


# Sizes around each boundary of the three forms of lengths, and of what is held back at most.
_SIZES = [
    *(0, 1, 2, 124, 125, 126, 127, 350, 65_535, 65_536, 150_000),
    *range(LONGEST_FRAME - 11, LONGEST_FRAME - 2),
]
_text = st.builds(Sent, st.just(TEXT), st.text(max_size=40).map(str.encode))
_runs = st.lists(_text, max_size=20)
_control = st.builds(Sent, st.sampled_from([PING, PONG]), st.binary(max_size=125))
_binary = st.builds(Sent, st.just(BINARY), st.binary(max_size=300))
_sized = st.builds(Sent, st.sampled_from([TEXT, BINARY]), st.just(b"x"), st.sampled_from(_SIZES))
_multibyte = st.builds(
    Sent,
    st.sampled_from([TEXT, BINARY]),
    st.sampled_from(["ж", "\n", "ab\N{SNOWMAN}"]).map(str.encode),
    st.sampled_from([1, 20, 60, 30_000]),
)


@st.composite
def _fragmented(draw: st.DrawFn) -> list[Sent]:
    """A message in fragments, cut within characters too, with control frames in between."""
    begins = draw(st.sampled_from([TEXT_BEGINS, BINARY_BEGINS]))
    message = draw(st.text(max_size=30)).encode()
    cuts = draw(st.lists(st.integers(0, len(message)), max_size=3).map(sorted))
    out: list[Sent] = []
    for at, end in itertools.pairwise([0, *cuts]):
        out.append(Sent(CONTINUES if out else begins, message[at:end]))
        out += draw(st.lists(_control, max_size=2))
    large = draw(st.sampled_from([0, 0, 70_000]))
    out.append(Sent(CONTINUES if out else begins, b"x", large))
    return [*out, Sent(ENDS, message[max(cuts, default=0) :])]


_codes = st.sampled_from([1000, 1001, 1003, 1007, 1008, 1009, 1011, 1012, 3000, 4999])
_closing = st.just(Sent(CLOSE, b"")) | st.builds(
    lambda code, reason: Sent(CLOSE, code.to_bytes(2) + reason.encode()),
    _codes,
    st.text(max_size=30),
)


def _flat(groups: Iterable[list[Sent]]) -> list[Sent]:
    return [frame for group in groups for frame in group]


def _one(frame: Sent) -> list[Sent]:
    return [frame]


_others = (_control | _binary | _sized | _multibyte).map(_one)
_sound = st.lists(_runs | _others | _fragmented(), max_size=6).map(_flat)
_sound_to_the_end = st.tuples(_sound, st.just([]) | _closing.map(_one)).map(_flat)


@frozen
class Received:
    """Frames, and where reads cut them."""

    frames: list[Sent]
    cuts: list[int]

    def __bytes__(self) -> bytes:
        return _sent(self.frames)


@st.composite
def _received(draw: st.DrawFn, sent: st.SearchStrategy[list[Sent]]) -> Received:
    """Reads that end anywhere, near the ends of frames, or after each byte of a stretch."""
    frames = draw(sent)
    sizes = (len(bytes(frame)) for frame in frames)
    ends = [*itertools.accumulate(sizes, initial=HANDSHAKE_BYTES)]
    near = st.builds(int.__add__, st.sampled_from(ends), st.integers(-3, 12))
    cuts = draw(st.lists(near | st.integers(0, ends[-1]), max_size=12))
    start = draw(st.none() | near)
    return Received(frames, [*cuts, *(range(start, start + 40) if start else ())])


@settings(deadline=None)
@given(_received(_sound_to_the_end))
def test_coalesced_messages_are_those_that_were_sent(received: Received) -> None:
    """Whatever a server sends, and however reads cut it."""
    _assert_same(bytes(received), received.cuts)


@settings(deadline=None)
@given(st.lists(_text | _control | _binary, max_size=6))
def test_a_stream_that_comes_byte_by_byte_is_unchanged(frames: list[Sent]) -> None:
    """Nothing can be coalesced then, and nothing may be lost."""
    sent = _sent(frames)
    _assert_same(sent, range(HANDSHAKE_BYTES + len(sent)))


def _masked(first: int) -> bytes:
    return bytes((first, 0x80 | 3)) + b"mask" + b"abc"


_BROKEN = {
    "masked": _masked(TEXT),
    "masked, empty": bytes((TEXT, 0x80)),
    "a masked ping": _masked(PING),
    "reserved bit 1": _frame(0xC1, b"a"),
    "reserved bit 2": _frame(0xA1, b"a"),
    "reserved bit 3": _frame(0x91, b"a"),
    "unknown opcode": _frame(0x83, b"a"),
    "unknown control opcode": _frame(0x8B),
    "a fragmented ping": _frame(0x09, b"a"),
    "2 bytes for a short length": bytes((TEXT, 126, 0, 125)) + b"x" * 125,
    "8 bytes for a short length": bytes((TEXT, 127)) + (65_535).to_bytes(8) + b"x" * 65_535,
    "a length beyond all measure": bytes((TEXT, 127)) + b"\xff" * 8,
    "a binary frame of such a length": bytes((BINARY, 127)) + b"\x80" + b"\x00" * 7,
    "a long ping": _frame(PING, b"x" * 126),
    "a very long close": _frame(CLOSE, b"x" * 70_000),
    "a text that is none": _frame(TEXT, b"\xff"),
    "half a character": _frame(TEXT, "ж".encode()[:1]),
    "a surrogate": _frame(TEXT, "\ud800".encode(errors="surrogatepass")),
    "a large text that is none": _frame(TEXT, b"x" * 70_000 + b"\xff"),
    "fragments that are no text": _frame(TEXT_BEGINS, b"a") + _frame(ENDS, b"\xff"),
    "a text amid fragments": _frame(TEXT_BEGINS, b"a") + _texts("b", "c") + _frame(ENDS, b"d"),
    "a binary amid fragments": _frame(TEXT_BEGINS, b"a") + _frame(BINARY, b"b"),
    "fragments amid fragments": _frame(BINARY_BEGINS, b"a") + _frame(TEXT_BEGINS, b"b"),
    "a continuation of nothing": _frame(CONTINUES, b"a"),
    "an end of nothing": _frame(ENDS, b"a"),
    "half a close code": _frame(CLOSE, b"\x03"),
    "a close code for no frame": _frame(CLOSE, (1005).to_bytes(2)),
    "a close code below all": _frame(CLOSE, (999).to_bytes(2)),
    "a close whose reason is no text": _frame(CLOSE, (1000).to_bytes(2) + b"\xff"),
}


@frozen
class Breach:
    """Frames that no server may send, by the names above."""

    name: str

    def __bytes__(self) -> bytes:
        return _BROKEN[self.name]


_breaches = st.builds(Breach, st.sampled_from([*_BROKEN]))


@settings(deadline=None)
@given(before=_sound, breach=_breaches, after=_sound, data=st.data())
def test_a_broken_protocol_is_reported_after_the_messages_before(
    before: list[Sent], breach: Breach, after: list[Sent], data: st.DataObject
) -> None:
    """The library ends the connection at the same place with the same code."""
    sent = _sent(before) + bytes(breach) + _sent(after)
    cuts = data.draw(st.lists(st.integers(0, HANDSHAKE_BYTES + len(sent)), max_size=12))
    _assert_same(sent, cuts)


@pytest.mark.parametrize("frame", _BROKEN.values(), ids=_BROKEN)
def test_each_breach_is_reported_among_texts(frame: bytes) -> None:
    """The property above may miss one of them."""
    sent = _texts("a", "b") + frame + _texts("c", "d")
    _assert_same(sent, [])
    last = _merged(sent)[-1]
    assert isinstance(last, Other)
    assert (last.kind, last.payload) in {("close", 1002), ("close", 1007)}


@pytest.mark.parametrize(
    "header",
    [
        b"\x81\x80",
        b"\xc1\x05",
        b"\x83\x05",
        b"\x09\x05",
        b"\x81\x7e\x00\x7d",
        b"\x88\x7e",
        b"\x89\x7f",
    ],
    ids=bytes.hex,
)
def test_a_breach_is_reported_with_the_header(header: bytes) -> None:
    """The remainder of the frame may never come."""
    assert _merged(header) == _plain(header)


def _answer(*lines: bytes) -> bytes:
    return b"\r\n".join([*lines, b"", b""])


_UPGRADE = (b"Upgrade: websocket", b"Connection: Upgrade")
_WRONG = b"Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA="
_HANDSHAKES = {
    "nothing": b"",
    "refused": _answer(b"HTTP/1.1 403 Forbidden", b"Content-Length: 2") + b"no",
    "refused without a length": _answer(b"HTTP/1.1 503 Service Unavailable"),
    "wrongly accepted": _answer(b"HTTP/1.1 101 Switching Protocols", *_UPGRADE, _WRONG),
    "not accepted": _answer(b"HTTP/1.1 101 Switching Protocols", *_UPGRADE),
    "of a number too many": _answer(b"HTTP/1.1 1011 Much", *_UPGRADE, _WRONG),
    "of another version": _answer(b"HTTP/1.0 101 Old", *_UPGRADE, _WRONG),
    "not yet": _answer(b"HTTP/1.1 100 Continue"),
    "an empty line": b"\r\n\r\n",
    "an alert of TLS": b"\x15\x03\x01\x00\x02\x02\x28",
    "frames": _texts("a", "b", "c"),
    "a beginning": b"HTTP/1.1 101",
    "endless": b"HTTP/1.1 101 \r\n" + b"X-Long: yes\r\n" * 12_000,
}


@settings(deadline=None, max_examples=30)
@given(cuts=st.lists(st.integers(0, 300), max_size=8), frames=_sound)
@pytest.mark.parametrize("handshake", _HANDSHAKES.values(), ids=_HANDSHAKES)
def test_an_invalid_handshake_reaches_the_library_unchanged(
    handshake: bytes, cuts: list[int], frames: list[Sent]
) -> None:
    """The library refuses it."""
    _assert_same(_sent(frames), cuts, handshake=handshake)


def test_a_handshake_may_end_its_lines_as_it_likes() -> None:
    """The library accepts bare line feeds; a message may contain what looks like the end."""
    frames = _frame(BINARY, b"\r\n\r\n" + _texts("a", "b")) + _texts("c")
    plain, merged = _Reader(), _Reader()
    coalescing = Coalescing()
    plain.read(plain.handshake().replace(b"\r\n", b"\n"))
    merged.read(coalescing.feed(merged.handshake().replace(b"\r\n", b"\n")))
    plain.read(frames)
    merged.read(coalescing.feed(frames))
    assert plain.items == [Other("accepted"), b"\r\n\r\n" + _texts("a", "b"), "c"]
    assert merged.items == plain.items


@settings(deadline=None)
@given(
    frames=_sound_to_the_end,
    damages=st.lists(
        st.tuples(st.integers(0, 400), st.integers(0, 2), st.binary(max_size=3)), max_size=3
    ),
    cuts=st.lists(st.integers(0, 500), max_size=10),
)
def test_damaged_bytes_do_no_harm(
    frames: list[Sent], damages: list[tuple[int, int, bytes]], cuts: list[int]
) -> None:
    """If bytes are changed or lost, the result is the same as without coalescing."""
    sent = bytearray(_sent(frames))
    for at, size, others in damages:
        sent[at : at + size] = others
    _assert_same(bytes(sent) + _ENOUGH, cuts)


@settings(deadline=None)
@given(st.binary(max_size=300), st.lists(st.integers(0, 500), max_size=10))
def test_arbitrary_bytes_do_no_harm(data: bytes, cuts: list[int]) -> None:
    """Nothing is raised, at most a frame is held back, and everything passes in the end."""
    _assert_same(data + _ENOUGH, cuts)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.binary(max_size=60) | st.just(ACCEPTED)))
def test_arbitrary_handshakes_do_no_harm(pieces: list[bytes]) -> None:
    """Nothing is raised, and a bounded part is held back."""
    for _ in _fed(Coalescing(), pieces):
        pass


def test_an_endless_handshake_is_passed_on() -> None:
    """Only a bounded part of it is remembered."""
    pieces = [b"HTTP/1.1 101 \r\n", *[b"X-Long: yes\r\n" * 100] * 200]
    assert [*_fed(Coalescing(), pieces)] == pieces


def _upgraded() -> Coalescing:
    coalescing = Coalescing()
    assert coalescing.feed(ACCEPTED) == ACCEPTED
    return coalescing


def _ticket(coalescing: Coalescing) -> bytes:
    """The frame that stands for texts put aside."""
    return _frame(BINARY, coalescing._ticket)


def _aside(coalescing: Coalescing) -> list[bytes]:
    """Redeem the next ticket."""
    return coalescing.redeem(coalescing._ticket)


def test_a_hundred_frames_are_one_message() -> None:
    """If they came with one read."""
    coalescing = _upgraded()
    hundred = [f"{number:03}" for number in range(100)]
    assert coalescing.feed(_texts(*hundred)) == _ticket(coalescing)
    assert _aside(coalescing) == [text.encode() for text in hundred]


def test_runs_are_redeemed_in_the_order_of_their_tickets() -> None:
    """The library may queue a few messages."""
    coalescing = _upgraded()
    runs = [("one", "two"), ("three", "four", "five"), ("six", "seven")]
    for run in runs:
        coalescing.feed(_texts(*run))
    for run in runs:
        assert _aside(coalescing) == [text.encode() for text in run]


def test_each_connection_has_a_ticket_of_its_own() -> None:
    """The ticket of one connection is no ticket on another."""
    one, other = _upgraded(), _upgraded()
    assert other.redeem(one._ticket) == [one._ticket]


def test_frames_that_come_with_the_handshake_are_coalesced() -> None:
    """They do not belong to the handshake."""
    coalescing = Coalescing()
    assert coalescing.feed(ACCEPTED + _texts("x" * 1000) * 100) == ACCEPTED + _ticket(coalescing)
    assert coalescing.feed(_texts("a", "end")) == _ticket(coalescing)
    assert [len(_aside(coalescing)) for _ in range(2)] == [100, 2]


@pytest.mark.parametrize("size", [0, 1, 10, 125, 126, 127, 266, 2000, LONGEST_FRAME - 4])
def test_texts_of_any_length_are_coalesced(size: int) -> None:
    """Whatever the form of their lengths."""
    coalescing = _upgraded()
    text = b"x" * size
    assert coalescing.feed(_frame(TEXT, text) * 2 + _texts("end")) == _ticket(coalescing)
    assert _aside(coalescing) == [text, text, b"end"]


def test_texts_of_several_lines_are_coalesced() -> None:
    """Texts are separated by frames, not by line ends."""
    coalescing = _upgraded()
    assert coalescing.feed(_texts("a\nb", "\n", "end")) == _ticket(coalescing)
    assert _aside(coalescing) == [b"a\nb", b"\n", b"end"]


def test_a_frame_that_is_cut_waits_for_its_end() -> None:
    """It then passes before those that came with its end."""
    coalescing = _upgraded()
    sent = _texts("a", "b", "cut", "d", "end")
    at = sent.index(b"ut")
    assert coalescing.feed(sent[:at]) == _ticket(coalescing)
    assert coalescing.feed(sent[at:]) == _ticket(coalescing)
    assert [_aside(coalescing) for _ in range(2)] == [[b"a", b"b"], [b"cut", b"d", b"end"]]


def test_a_control_frame_separates_runs() -> None:
    """A ping is answered in its turn."""
    coalescing, ping = _upgraded(), _frame(PING, b"?")
    merged = coalescing.feed(_texts("a", "b") + ping + _texts("c", "end"))
    assert merged == _ticket(coalescing) + ping + _ticket(coalescing)
    assert [_aside(coalescing) for _ in range(2)] == [[b"a", b"b"], [b"c", b"end"]]


_AS_THEY_ARE = {
    "a text alone": _texts("alone"),
    "a binary frame": _frame(BINARY, b"a\nb") * 2,
    "fragments": _frame(TEXT_BEGINS, b"a") + _frame(PING) + _frame(ENDS, b"b"),
    "a text that needs 8 bytes for its length": _texts("x" * 65_536),
    "a close": _frame(CLOSE, (1001).to_bytes(2) + b"going away"),
    "what follows a breach": _masked(TEXT) + _texts("a", "b"),
}


@pytest.mark.parametrize("frames", _AS_THEY_ARE.values(), ids=_AS_THEY_ARE)
def test_other_frames_pass_unchanged(frames: bytes) -> None:
    """Byte for byte."""
    assert _upgraded().feed(frames) == frames


def test_a_large_frame_passes_piece_by_piece() -> None:
    """It is not held back, and later frames are coalesced again."""
    coalescing = _upgraded()
    large = _texts("x" * LONGEST_FRAME)
    pieces = [*_pieces(large, range(0, len(large), 1000))]
    assert [coalescing.feed(piece) for piece in pieces[:-1]] == pieces[:-1]
    merged = coalescing.feed(pieces[-1] + _texts("a", "end"))
    assert merged == pieces[-1] + _ticket(coalescing)


def test_frames_are_coalesced_again_after_fragments() -> None:
    """As soon as the last fragment has come."""
    coalescing = _upgraded()
    coalescing.feed(_frame(TEXT_BEGINS, b"a") + _frame(CONTINUES, b"b"))
    merged = coalescing.feed(_frame(ENDS, b"c") + _texts("d", "end"))
    assert merged == _frame(ENDS, b"c") + _ticket(coalescing)
