from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.native import wire
from tests.native.wire import WireError, WireReader


def reader(data: bytes) -> WireReader:
    """A reader of just these bytes."""
    return WireReader(io.BytesIO(data))


@given(st.integers(min_value=0, max_value=2**64 - 1))
def test_varints_are_read_as_written(number: int) -> None:
    """Every number of 64 bits survives the wire."""
    assert reader(wire.varint(number)).varint() == number


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_strings_are_read_as_written(text: str) -> None:
    """Every text survives the wire."""
    assert reader(wire.string(text)).string() == text


@given(st.text(min_size=1), st.data())
def test_a_cut_string_is_an_end_of_file(text: str, data: st.DataObject) -> None:
    """A stream that ends inside of an atom raises EOFError, wherever it ends."""
    encoded = wire.string(text)
    cut = data.draw(st.integers(min_value=0, max_value=len(encoded) - 1))
    with pytest.raises(EOFError):
        reader(encoded[:cut]).string()


def test_an_endless_varint_is_refused() -> None:
    """A stream out of step does not make the reader run on for ever."""
    with pytest.raises(WireError, match="ten bytes"):
        reader(b"\xff" * 11).varint()


def test_bytes_that_are_not_text_are_refused() -> None:
    """A string that is not UTF-8 is the client's error."""
    with pytest.raises(WireError, match="UTF-8"):
        reader(b"\x01\xff").string()


def test_the_tape_keeps_what_was_read_inside() -> None:
    """A tape holds the bytes read in its block, none before and none after."""
    source = reader(b"\x01\x02\x03\x04")
    source.uint8()
    with source.taped() as tape:
        source.take(2)
    source.uint8()
    assert tape == b"\x02\x03"
