"""The path of a stream socket, in every form that clients of the exchange dial. Pure.

    [/VENUE][/market|/public|/private]/ws[/STREAM/STREAM...]            events as they are
    [/VENUE][/market|/public|/private]/stream[?streams=STREAM/STREAM]   each in an envelope

VENUE is `usdm`, `coinm` or `spot`; without it `/market` is USD-M and COIN-M. A bare path is spot's
and COIN-M's, as on the exchange, and that of USD-M where the agent records no spot.
"""

from __future__ import annotations

from urllib.parse import parse_qs, unquote

from attrs import frozen

from klineagent.core.errors import InvalidRequest, NoSuchSocket
from klineagent.exchange.venues import COINM, SPOT, USDM, VENUES, Venue

_ROUTES = frozenset({"market", "public", "private"})


@frozen
class SocketPath:
    """What a client says when it dials."""

    venues: tuple[Venue, ...]
    """The venues that its streams may belong to; the first that records a stream has it."""
    is_combined: bool
    """Whether events come in the envelope of `/stream`."""
    names: tuple[str, ...]
    """The streams that it wants from the start."""


def read_path(target: str) -> SocketPath:
    """Read the target of a request: path and query.

    Raises:
        NoSuchSocket: there is no such path.
        InvalidRequest: an option is asked for that would change the events.
    """
    path, _, query_text = target.partition("?")
    # Base URLs end with a slash or not, and some clients add one in any case.
    parts = [unquote(part) for part in path.split("/") if part]
    query = {name: values[-1] for name, values in parse_qs(query_text).items()}
    venues: tuple[Venue, ...] = (SPOT, COINM, USDM)
    if parts and parts[0] in VENUES:
        venues = (VENUES[parts.pop(0)],)
    if parts and parts[0] in _ROUTES:
        parts.pop(0)
        venues = (USDM, COINM) if len(venues) > 1 else venues
    match parts:
        case ["ws", *names]:
            is_combined = False
        case ["stream"]:
            is_combined, names = True, query.get("streams", "").split("/")
        case _:
            raise NoSuchSocket("sockets are at /ws and /stream; see docs/reading.md")
    if query.get("timeUnit", "MILLISECOND").upper() != "MILLISECOND":
        raise InvalidRequest("timeUnit: times are milliseconds here")
    return SocketPath(venues, is_combined, tuple(filter(None, names)))


def token_in(target: str) -> str:
    """Return `?token=` of a request's target: a browser's socket cannot send a header."""
    return parse_qs(target.partition("?")[2]).get("token", [""])[-1]
