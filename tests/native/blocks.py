"""Blocks as FORMAT Native writes them, which on the wire is revision 0 to 54453.

A block carries no length, so whoever wants to know where it ends must walk its columns by their
types. What is walked here covers what recorders store and clients ask; another type is refused
by name.
"""

from __future__ import annotations

import io
from collections.abc import Iterator

from attrs import frozen

from tests.native.wire import WireError, WireReader, string, varint

_WIDTHS = {
    "Bool": 1,
    "Date": 2,
    "Date32": 4,
    "DateTime": 4,
    "DateTime64": 8,
    "Decimal32": 4,
    "Decimal64": 8,
    "Decimal128": 16,
    "Decimal256": 32,
    "Enum8": 1,
    "Enum16": 2,
    "Float32": 4,
    "Float64": 8,
    "IPv4": 4,
    "IPv6": 16,
    "Nothing": 1,
    "UUID": 16,
} | {f"{sign}Int{bits}": bits // 8 for sign in ("", "U") for bits in (8, 16, 32, 64, 128, 256)}
_DECIMAL_WIDTHS = ((9, 4), (18, 8), (38, 16), (76, 32))

_GLOBAL_DICTIONARY = 0x100
_OWN_KEYS = 0x200


@frozen
class Column:
    """A column's name and type."""

    name: str
    type: str


@frozen
class Block:
    """Some rows: the columns, and the bytes FORMAT Native has for them."""

    columns: tuple[Column, ...]
    rows: int
    native: bytes

    def header(self) -> Block:
        """The same columns without rows."""
        return header_block(self.columns)


def header_block(columns: tuple[Column, ...]) -> Block:
    """A block without rows."""
    names = b"".join(string(column.name) + string(column.type) for column in columns)
    return Block(columns, 0, varint(len(columns)) + varint(0) + names)


END_OF_DATA = header_block(())


def read_block(reader: WireReader) -> Block:
    """Read one block.

    Raises:
        WireError: it holds a column whose type cannot be walked.
    """
    columns = []
    with reader.taped() as tape:
        column_count, rows = reader.varints(2)
        for _ in range(column_count):
            column = Column(*reader.strings(2))
            if rows:
                kind = _parse_type(column.type)
                _skip_prefix(reader, kind)
                _skip_rows(reader, kind, rows)
            columns.append(column)
    return Block(tuple(columns), rows, bytes(tape))


def split_blocks(native: bytes) -> Iterator[Block]:
    """The blocks that output of FORMAT Native consists of."""
    source = io.BytesIO(native)
    reader = WireReader(source)
    while source.tell() < len(native):
        yield read_block(reader)


@frozen
class _Type:
    """A type's name and what stands in its parentheses."""

    name: str
    arguments: tuple[str, ...]

    @property
    def inner(self) -> tuple[_Type, ...]:
        """The types it is made of; a named tuple's elements are `name Type`."""
        if self.name == "SimpleAggregateFunction":
            return (_parse_type(self.arguments[1]),)
        if self.name in ("Tuple", "Nested"):
            return tuple(_parse_type(_without_name(text)) for text in self.arguments)
        return tuple(map(_parse_type, self.arguments))


def _parse_type(text: str) -> _Type:
    name, parenthesis, rest = text.partition("(")
    return _Type(name, tuple(_split_arguments(rest[:-1])) if parenthesis else ())


def _split_arguments(text: str) -> Iterator[str]:
    """Split at the commas that stand in no parentheses and no quotes."""
    depth = start = 0
    quote = ""
    for position, char in enumerate(text):
        if quote:
            if char == quote and text[position - 1] != "\\":
                quote = ""
        elif char in "'`":
            quote = char
        elif char == "," and not depth:
            yield text[start:position].strip()
            start = position + 1
        else:
            depth += (char == "(") - (char == ")")
    yield text[start:].strip()


def _without_name(element: str) -> str:
    """`name Type(a, b)` to `Type(a, b)`; a plain type stays as it is."""
    head, parenthesis, rest = element.partition("(")
    return head.split(" ")[-1] + parenthesis + rest


def _skip_prefix(reader: WireReader, kind: _Type) -> None:
    """Skip what a column writes once, before its rows: the version of its dictionary's keys."""
    match kind.name:
        case "LowCardinality":
            reader.uint64()
        case "Array" | "Nullable" | "Map" | "Tuple" | "SimpleAggregateFunction":
            for inner in kind.inner:
                _skip_prefix(reader, inner)


def _skip_rows(reader: WireReader, kind: _Type, rows: int) -> None:
    match kind.name:
        case "String":
            for _ in range(rows):
                reader.take(reader.varint())
        case "Nullable":
            reader.take(rows)
            _skip_rows(reader, kind.inner[0], rows)
        case "Array" | "Map":
            elements = [reader.uint64() for _ in range(rows)][-1] if rows else 0
            for inner in kind.inner:
                _skip_rows(reader, inner, elements)
        case "Tuple" | "SimpleAggregateFunction":
            for inner in kind.inner:
                _skip_rows(reader, inner, rows)
        case "LowCardinality":
            # No dictionary is written for no rows, as inside of empty arrays.
            if rows:
                _skip_dictionary(reader, kind.inner[0])
        case _:
            reader.take(_width(kind) * rows)


def _skip_dictionary(reader: WireReader, keys: _Type) -> None:
    flags = reader.uint64()
    if flags & _GLOBAL_DICTIONARY or not flags & _OWN_KEYS:
        raise WireError("a LowCardinality column shares its dictionary between blocks")
    # A key for NULL is written like any other, as the empty value.
    _skip_rows(reader, keys.inner[0] if keys.name == "Nullable" else keys, reader.uint64())
    index_width = 1 << (flags & 0xFF)
    reader.take(index_width * reader.uint64())


def _width(kind: _Type) -> int:
    if kind.name == "FixedString":
        return int(kind.arguments[0])
    if kind.name == "Decimal":
        digits = int(kind.arguments[0])
        return next(width for most, width in _DECIMAL_WIDTHS if digits <= most)
    try:
        return _WIDTHS[kind.name]
    except KeyError:
        raise WireError(f"columns of type {kind.name} cannot be walked") from None
