"""Reads requests: bodies and query strings as Structs, names as venues, symbols and intervals."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from attrs import frozen
from msgspec import Struct
from quart import request

from klineagent.api.models.contract import StreamBody, SymbolsBody
from klineagent.core.errors import UNREADABLE, InvalidRequest
from klineagent.core.interval import Interval
from klineagent.exchange.venues import Venue, full_name, symbol_named


@frozen
class StreamRequest:
    """One stream, (symbol, interval), to add or remove."""

    symbol: str
    """The symbol as answers write it."""
    interval: Interval


_Asked = TypeVar("_Asked", bound=Struct)


async def read_body(kind: type[_Asked]) -> _Asked:
    """Read the current request's body.

    Raises:
        InvalidRequest: the body is not JSON, or not a `kind`.
    """
    return decode(await request.get_data(), kind)


def read_query(kind: type[_Asked]) -> _Asked:
    """Read the current request's query string, converting numbers and booleans from text.

    Raises:
        InvalidRequest: a parameter is missing, unknown, given twice, or wrong.
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
        raise InvalidRequest(f"the query is invalid: {error}") from error


def stream_request(asked: StreamBody, default: Venue) -> StreamRequest:
    """Read which stream is meant; `default` is the venue of a symbol that names none.

    Raises:
        InvalidRequest: the symbol is empty, or its venue does not exist or has no such interval.
    """
    venue, symbol = symbol_named(asked.symbol, default, beside=asked.venue, field="symbol")
    return StreamRequest(full_name(venue, symbol, default), interval_named(asked.interval, venue))


def symbols_request(asked: SymbolsBody, default: Venue) -> list[str]:
    """Read which symbols are meant, without duplicates, in the order given, as answers write them.

    Raises:
        InvalidRequest: there are none, one is empty, or its venue does not exist.
    """
    if not asked.symbols:
        raise InvalidRequest("symbols: the list is empty")
    named = (
        symbol_named(name, default, beside=asked.venue, field=f"symbols[{at}]")
        for at, name in enumerate(asked.symbols)
    )
    return list(dict.fromkeys(full_name(venue, symbol, default) for venue, symbol in named))


def decode(body: bytes | str, kind: type[_Asked]) -> _Asked:
    """Decode JSON.

    Raises:
        InvalidRequest: the body is not JSON, or not a `kind`.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        # msgspec names the field: "Expected `str`, got `int` - at `$.symbol`".
        raise InvalidRequest(f"the body is invalid: {error}") from error
    except UNREADABLE as error:
        raise InvalidRequest(f"the body is not JSON: {error}") from error


def interval_named(name: str, *venues: Venue) -> Interval:
    """Read which interval is meant.

    Raises:
        InvalidRequest: none of `venues` has such an interval.
    """
    there = frozenset().union(*(venue.intervals for venue in venues))
    offered = {str(each): each for each in Interval if each in there}
    if (interval := offered.get(name.strip())) is None:
        places = ", ".join(venue.name for venue in venues)
        raise InvalidRequest(
            f"interval: {name!r} does not exist on {places}; use one of {', '.join(offered)}"
        )
    return interval
