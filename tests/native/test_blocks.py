from __future__ import annotations

import datetime as dt
import io
import uuid
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from clickhouse_driver.block import ColumnOrientedBlock
from clickhouse_driver.bufferedwriter import BufferedSocketWriter
from clickhouse_driver.context import Context
from clickhouse_driver.streams.native import BlockOutputStream

from tests.native.blocks import END_OF_DATA, Block, Column, header_block, read_block, split_blocks
from tests.native.packets import SERVER_REVISION
from tests.native.wire import WireError, WireReader, string

# Block info is part of the packet, not of the block: two fields of 1 + 1 and 1 + 4 bytes, and 0.
BLOCK_INFO_BYTES = 8

COLUMNS: dict[str, list[Any]] = {
    "UInt8": [0, 255],
    "Int64": [-1, 2**62],
    "UInt256": [1, 2**255],
    "Float64": [0.5, -1e300],
    "Bool": [True, False],
    "String": ["", "x" * 300],
    "FixedString(3)": ["abc", "de"],
    "Date": [dt.date(2026, 1, 1), dt.date(1970, 1, 2)],
    "DateTime('UTC')": [0, 1_700_000_000],
    "DateTime64(3, 'UTC')": [0, 1_700_000_000_123],
    "Decimal(9, 2)": [Decimal("1.5"), Decimal(2)],
    "Decimal(38, 18)": [Decimal("1.5"), Decimal(2)],
    "UUID": [uuid.UUID(int=1), uuid.UUID(int=2**127)],
    "Enum8('a,(' = 1, 'b' = 2)": ["a,(", "b"],
    "Nullable(String)": [None, "x"],
    "LowCardinality(String)": ["x", "y"],
    "LowCardinality(Nullable(String))": [None, "y"],
    "Array(UInt16)": [[], [1, 2, 3]],
    "Array(LowCardinality(String))": [["x", "y"], []],
    "Array(Array(Nullable(Float64)))": [[[None, 1.0], []], []],
    "Map(String, UInt64)": [{"a": 1}, {}],
    "Tuple(UInt8, Tuple(String, Float64))": [(1, ("a", 2.0)), (3, ("b", 4.0))],
}


def encode(columns: dict[str, list[Any]]) -> bytes:
    """A block as clickhouse-driver writes it, without its info."""
    context = Context()
    context.server_info = SimpleNamespace(
        used_revision=SERVER_REVISION, get_timezone=lambda: "UTC", version_tuple=lambda: (26, 9, 2)
    )
    context.settings = {}
    context.client_settings = {
        "strings_as_bytes": False,
        "strings_encoding": "utf-8",
        "input_format_null_as_default": False,
        "use_numpy": False,
    }
    sent = bytearray()
    writer = BufferedSocketWriter(SimpleNamespace(sendall=sent.extend), 1 << 16)
    names = [(f"c{number}", kind) for number, kind in enumerate(columns)]
    copies = [list(values) for values in columns.values()]  # some columns write over their values
    BlockOutputStream(writer, context).write(ColumnOrientedBlock(names, copies))
    writer.flush()
    return bytes(sent[BLOCK_INFO_BYTES:])


@pytest.mark.parametrize("kind", COLUMNS)
def test_a_stream_is_split_where_its_blocks_end(kind: str) -> None:
    """Columns of every type are walked to their last byte, as another client writes them."""
    once = encode({kind: COLUMNS[kind]})
    block = Block((Column("c0", kind),), 2, once)
    assert list(split_blocks(once * 2)) == [block, block]


def test_columns_of_all_types_stand_side_by_side() -> None:
    """A block of many columns is walked as a whole."""
    encoded = encode(COLUMNS)
    (block,) = split_blocks(encoded)
    assert [column.type for column in block.columns] == list(COLUMNS)
    assert block.native == encoded


def test_a_dictionary_of_more_than_a_byte_is_walked() -> None:
    """The width of a dictionary's indexes grows with its keys."""
    values = [str(number) for number in range(70_000)]
    encoded = encode({"LowCardinality(String)": values})
    assert [block.rows for block in split_blocks(encoded)] == [70_000]


def test_a_header_has_the_columns_and_no_rows() -> None:
    """A header can be read back, and says what the block says."""
    columns = (Column("a", "UInt8"), Column("b", "LowCardinality(String)"))
    header = header_block(columns)
    assert list(split_blocks(header.native)) == [header]
    assert header.header() == header
    assert not END_OF_DATA.columns


def test_a_type_that_cannot_be_walked_is_named() -> None:
    """What the walk does not cover is refused, never guessed."""
    encoded = b"\x01\x01" + string("a") + string("JSON(max_dynamic_paths=8)") + b"\0" * 64
    with pytest.raises(WireError, match="JSON"):
        read_block(WireReader(io.BytesIO(encoded)))
