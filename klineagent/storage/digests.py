"""A digest of a candle's values: the same number from any database and from Python. Pure.

The digests of a day are added up, modulo 2^64, so that their order does not matter; a difference in
one value of one candle always changes the sum. They find accidents, not forgeries. A candle's
digest is the sum of its values' bits, each times an odd number of its own, times an odd number made
of its open time; so values that change places are found, within a candle and between candles.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

DIGESTED = (
    *("open", "high", "low", "close", "volume", "quote_volume"),
    *("trades", "taker_buy_volume", "taker_buy_quote_volume"),
)
"""The values in a digest, by their names in table `klines`."""
_COUNTED = "trades"
# The first digits of pi, e and some roots, in hexadecimal; odd, as the last digit shows.
_ODD = (
    *(0x243F6A8885A308D3, 0xB7E151628AED2A6B, 0x9E3779B97F4A7C15, 0x6A09E667F3BCC909),
    *(0xBB67AE8584CAA73B, 0x3C6EF372FE94F82B, 0xA54FF53A5F1D36F1, 0x510E527FADE682D1),
    0x9B05688C2B3E6C1F,
)
_MODULUS = 1 << 64
_BITS = struct.Struct("<9Q")
_VALUES = struct.Struct("<6dQ2d")


def digest_sum(candles: Iterable[tuple[int, Sequence[float]]]) -> int:
    """Add up the digests of candles, given as open time in milliseconds and `DIGESTED` values."""
    total = 0
    pack, unpack = _VALUES.pack, _BITS.unpack
    for open_ms, values in candles:
        bits = unpack(pack(*values))
        total += sum(map(int.__mul__, bits, _ODD)) * (2 * open_ms + 1)
    return total % _MODULUS


def digest_sql(opened: str) -> str:
    """Make an expression for a candle's digest; `opened` is one for its open time in ms.

    Like all of ClickHouse's arithmetic on UInt64 it is modulo 2^64.
    """
    terms = (f"{_bits(name)} * toUInt64({odd})" for name, odd in zip(DIGESTED, _ODD, strict=True))
    return f"({' + '.join(terms)}) * (toUInt64({opened}) * 2 + 1)"


def _bits(name: str) -> str:
    if name == _COUNTED:
        return f"toUInt64(`{name}`)"
    # Through a string: old servers know no other way.
    return f"reinterpretAsUInt64(reinterpretAsString(`{name}`))"
