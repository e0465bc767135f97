"""What requests ask for: bodies and query strings to Structs, names to what they mean."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from attrs import frozen
from msgspec import Struct
from quart import request

from klineagent.api.models.contract import StreamBody, SymbolsBody
from klineagent.core.errors import UNREADABLE, InvalidRequest
from klineagent.core.interval import Interval
from klineagent.exchange.venues import Venue


@frozen
class StreamRequest:
    """One (symbol, interval) to add or to remove."""

    symbol: str
    interval: Interval


_Asked = TypeVar("_Asked", bound=Struct)


async def read_body(kind: type[_Asked]) -> _Asked:
    """The body of the request under way.

    Raises:
        InvalidRequest: it is not JSON, or not a `kind`.
    """
    return decode(await request.get_data(), kind)


def read_query(kind: type[_Asked]) -> _Asked:
    """The query string of the request under way; numbers and truth values as words.

    Raises:
        InvalidRequest: a parameter is missing, unknown, there twice, or wrong.
    """
    asked = request.args.to_dict(flat=False)
    known = {each.encode_name for each in msgspec.structs.fields(kind)}
    if unknown := sorted(asked.keys() - known):
        offered = f"known are {', '.join(sorted(known))}" if known else "there are none"
        raise InvalidRequest(f"{unknown[0]}: no such parameter; {offered}")
    if repeated := [name for name, values in asked.items() if len(values) > 1]:
        raise InvalidRequest(f"{repeated[0]}: given more than once")
    try:
        return msgspec.convert(
            {name: value for name, (value,) in asked.items()}, kind, strict=False
        )
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"the query is not as it should be: {error}") from error


def stream_request(asked: StreamBody, venue: Venue) -> StreamRequest:
    """The stream that is meant.

    Raises:
        InvalidRequest: the symbol is empty, or `venue` has no such interval.
    """
    return StreamRequest(
        _symbol(asked.symbol, field="symbol"), interval_named(asked.interval, venue)
    )


def symbols_request(asked: SymbolsBody) -> list[str]:
    """The symbols that are meant; each once, in the order they were named first.

    Raises:
        InvalidRequest: there are none, or one is empty.
    """
    if not asked.symbols:
        raise InvalidRequest("symbols: the list is empty")
    symbols = (_symbol(name, field=f"symbols[{at}]") for at, name in enumerate(asked.symbols))
    return list(dict.fromkeys(symbols))


def decode(body: bytes | str, kind: type[_Asked]) -> _Asked:
    """Read JSON.

    Raises:
        InvalidRequest: it is none, or not a `kind`.
    """
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


def interval_named(name: str, venue: Venue) -> Interval:
    """The interval that is meant.

    Raises:
        InvalidRequest: `venue` has no such interval.
    """
    offered = {str(each): each for each in Interval if each in venue.intervals}
    if (interval := offered.get(name.strip())) is None:
        raise InvalidRequest(
            f"interval: {name!r} does not exist on {venue.name}; use one of {', '.join(offered)}"
        )
    return interval
