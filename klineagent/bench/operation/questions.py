"""The requests that operators and programs send to an agent, and their shares. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from typing import TypeVar
from urllib.parse import urlencode

import msgspec
from attrs import frozen
from msgspec import Struct

from klineagent.core.interval import Interval


class Topics(Struct, frozen=True, kw_only=True):
    """The servers, symbols and intervals that requests are about."""

    command: str
    """Address of the command server."""
    status: str
    symbols: tuple[str, ...]
    """Recorded at all of `intervals`."""
    spare_symbol: str
    """A symbol that is not recorded; its streams are added and removed."""
    intervals: tuple[Interval, ...]
    open_time: str
    """Open time of a candle, as the API accepts it."""


@frozen(kw_only=True)
class Question:
    """One HTTP request."""

    kind: str
    server: str
    """Address of the server."""
    path: str
    """Path with query."""
    body: bytes | None = None
    """The body of a POST; None for a GET."""

    @property
    def url(self) -> str:
        """The whole URL."""
        return f"http://{self.server}{self.path}"


_Item = TypeVar("_Item")
_Ask = Callable[[Topics, int], Question]
"""Makes the n-th question of its kind."""


def _status(path: str) -> _Ask:
    return lambda topics, _: Question(kind=f"status {path}", server=topics.status, path=path)


def _command(path: str) -> _Ask:
    return lambda topics, _: Question(kind=path, server=topics.command, path=path)


def _coverage(topics: Topics, nth: int) -> Question:
    return _of_series("/v1/coverage", topics, {"symbol": _one_of(topics.symbols, nth)})


def _why(topics: Topics, nth: int) -> Question:
    return _of_series(
        "/v1/why",
        topics,
        {
            "symbol": _one_of(topics.symbols, nth),
            "interval": topics.intervals[0].value,
            "open_time": topics.open_time,
        },
    )


def _of_series(path: str, topics: Topics, query: Mapping[str, str]) -> Question:
    return Question(kind=path, server=topics.command, path=f"{path}?{urlencode(query)}")


def _add_or_remove(topics: Topics, nth: int) -> Question:
    """Add a stream, and remove it the next time."""
    path = "/streams/remove" if nth % 2 else "/streams/add"
    stream = {
        "symbol": topics.spare_symbol,
        "interval": _one_of(topics.intervals, nth // 2).value,
    }
    return Question(kind=path, server=topics.command, path=path, body=msgspec.json.encode(stream))


def _one_of(items: Sequence[_Item], nth: int) -> _Item:
    return items[nth % len(items)]


SHARES: Mapping[_Ask, int] = {
    # Fleet managers and load balancers ask these all the time.
    _status("/ping"): 40,
    _status("/live"): 10,
    _status("/ready"): 10,
    _command("/status"): 40,
    _command("/symbols"): 20,
    _command("/connections/count"): 20,
    # Programs and people who look after data ask these.
    _coverage: 20,
    _why: 10,
    _command("/v1/limits"): 10,
    _command("/v1/feeds"): 10,
    _command("/v1/subscriptions"): 7,
    # Answers of a megabyte: once a second at the usual rate.
    _status("/metrics"): 1,
    _command("/connections/list"): 1,
    _add_or_remove: 1,
}
"""How many of 200 questions are of each kind; at the usual rate, how many a second."""


def questions(topics: Topics) -> Iterator[Question]:
    """Yield questions for ever, with the kinds mixed as evenly as their shares allow."""
    numbers = {ask: count() for ask in SHARES}
    owed = dict.fromkeys(SHARES, 0)
    whole = sum(SHARES.values())
    while True:
        for ask, share in SHARES.items():
            owed[ask] += share
        due = max(owed, key=owed.__getitem__)
        owed[due] -= whole
        yield due(topics, next(numbers[due]))
