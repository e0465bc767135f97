"""Encodes klines in ClickHouse's `RowBinary` format. Pure.

Values are little-endian, in the order of `Kline`'s fields; a string is its length as LEB128 and its
UTF-8 bytes, whatever the column's type; DateTime64(3) is milliseconds.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from functools import lru_cache

from klineagent.core.errors import RowsRefused
from klineagent.core.kline import Kline
from klineagent.storage.clickhouse.tables.schema import KLINE_COLUMNS, ColumnKind, quoted

_FORMATS = {  # in struct, in the engine
    ColumnKind.TEXT: ("", "String"),
    ColumnKind.TIME: ("q", "DateTime64(3, 'UTC')"),
    ColumnKind.REAL: ("d", "Float64"),
    ColumnKind.COUNT: ("I", "UInt32"),
    ColumnKind.TRADE_ID: ("q", "Int64"),
    ColumnKind.FLAG: ("?", "Bool"),
    ColumnKind.VERSION: ("Q", "UInt64"),
    ColumnKind.SOURCE: ("", "String"),
}
_KINDS = [KLINE_COLUMNS[name] for name in Kline._fields]
STRUCTURE = ", ".join(
    f"{quoted(name)} {_FORMATS[kind][1]}" for name, kind in zip(Kline._fields, _KINDS, strict=True)
)
"""The columns of the encoded bytes, for table function `file`."""

_NUMBERS = struct.Struct("<" + "".join(_FORMATS[kind][0] for kind in _KINDS))
_MORE = 0x80  # the bit of a LEB128 group that announces another


def encode(klines: Iterable[Kline]) -> bytes:
    """Encode `klines` for an insert.

    Raises:
        RowsRefused: a value does not fit its column.
    """
    pack = _NUMBERS.pack
    try:
        return b"".join(
            [_strings(*kline[:3]) + pack(*kline[3:-1]) + _strings(kline[-1]) for kline in klines]
        )
    except (struct.error, UnicodeEncodeError) as error:
        raise RowsRefused(f"a value does not fit its column: {error}") from error


# Every series repeats the same three strings: 600 symbols in 15 intervals are 9,000 entries, a
# megabyte.
@lru_cache(maxsize=16_384)
def _strings(*texts: str) -> bytes:
    encoded = [text.encode() for text in texts]
    return b"".join(_varint(len(text)) + text for text in encoded)


def _varint(number: int) -> bytes:
    groups = bytearray()
    while number >= _MORE:
        groups.append(number % _MORE | _MORE)
        number //= _MORE
    groups.append(number)
    return bytes(groups)
