from __future__ import annotations

import struct
from functools import partial
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klineagent.core.errors import RowsRefused
from klineagent.core.kline import Kline
from klineagent.storage.clickhouse.rowbinary import STRUCTURE, encode
from tests.storage.samples import sample

INT64 = st.integers(-(2**63), 2**63 - 1)
UINT64 = st.integers(0, 2**64 - 1)
UINT32 = st.integers(0, 2**32 - 1)
REAL = st.floats(allow_nan=False)
TEXT = st.text(max_size=300)
KLINES = st.builds(
    Kline,
    *[TEXT] * 3,
    *[INT64] * 2,
    *[REAL] * 6,
    UINT32,
    *[REAL] * 2,
    *[INT64] * 2,
    st.booleans(),
    INT64,
    UINT64,
    TEXT,
)


CODES = "qqddddddIddqq?qQ"


def decode(data: bytes) -> list[Kline]:
    """Read by the format's description, value by value."""
    stream = BytesIO(data)
    klines = []
    while stream.tell() < len(data):
        series = [_text(stream) for _ in range(3)]
        numbers = map(partial(_value, stream), CODES)
        klines.append(Kline._make([*series, *numbers, _text(stream)]))
    return klines


def _value(stream: BytesIO, code: str) -> object:
    value = struct.Struct(f"<{code}")
    [number] = value.unpack(stream.read(value.size))
    return number


def _text(stream: BytesIO) -> str:
    length = shift = 0
    while True:
        [group] = stream.read(1)
        length |= (group & 0x7F) << shift
        shift += 7
        if group < 0x80:
            return stream.read(length).decode()


@given(st.lists(KLINES, max_size=5))
def test_every_kline_can_be_read_back(klines: list[Kline]) -> None:
    """The bytes hold every field exactly, rows follow each other without anything between."""
    assert decode(encode(klines)) == klines


def test_structure_names_the_fields_in_order() -> None:
    """The structure lists the columns in the order of the bytes."""
    assert [part.split("` ")[0] for part in STRUCTURE.removeprefix("`").split(", `")] == list(
        Kline._fields
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"trades": 2**32},
        {"trades": -1},
        {"version": -1},
        {"open_time": 2**63},
        {"symbol": "\ud800"},
    ],
)
def test_value_beyond_its_column_is_refused(changes: dict[str, Any]) -> None:
    """What no column can hold is refused here rather than changed there."""
    with pytest.raises(RowsRefused):
        encode([sample(**changes)])
