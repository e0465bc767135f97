"""Bodies of commands to what they ask for. Pure."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from attrs import frozen
from msgspec import Struct

from klineagent.errors import UNREADABLE, InvalidRequest
from klineagent.kline import Interval
from klineagent.market.venues import Venue


class _StreamBody(Struct):
    symbol: str
    interval: str


class _SymbolsBody(Struct):
    symbols: list[str]


@frozen
class StreamRequest:
    """One (symbol, interval) to add or to remove."""

    symbol: str
    interval: Interval


_Body = TypeVar("_Body", bound=Struct)


def stream_request(body: bytes | str, venue: Venue) -> StreamRequest:
    """Read `{"symbol": ..., "interval": ...}`.

    Raises:
        InvalidRequest: the body is anything else, or `venue` has no such interval.
    """
    asked = _decode(body, _StreamBody)
    return StreamRequest(_symbol(asked.symbol, field="symbol"), _interval(asked.interval, venue))


def symbols_request(body: bytes | str) -> list[str]:
    """Read `{"symbols": [...]}`; each symbol once, in the order they were named first.

    Raises:
        InvalidRequest: the body is anything else, or names no symbol.
    """
    asked = _decode(body, _SymbolsBody).symbols
    if not asked:
        raise InvalidRequest("symbols: the list is empty")
    symbols = (_symbol(name, field=f"symbols[{at}]") for at, name in enumerate(asked))
    return list(dict.fromkeys(symbols))


def _decode(body: bytes | str, kind: type[_Body]) -> _Body:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        # "Expected `str`, got `int` - at `$.symbol`": it names the field.
        raise InvalidRequest(f"the body is not as it should be: {error}") from error
    except UNREADABLE as error:
        raise InvalidRequest(f"the body is not JSON: {error}") from error


def _symbol(name: str, *, field: str) -> str:
    if not (symbol := name.strip().upper()):
        raise InvalidRequest(f"{field}: the name is empty")
    return symbol


def _interval(name: str, venue: Venue) -> Interval:
    offered = {str(each): each for each in Interval if each in venue.intervals}
    if (interval := offered.get(name.strip())) is None:
        raise InvalidRequest(
            f"interval: {name!r} does not exist on {venue.name}; use one of {', '.join(offered)}"
        )
    return interval
