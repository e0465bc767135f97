"""What operators and programs ask of an agent, and how often each of it. Pure."""

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
    """Whom to ask, and about what."""

    command: str
    """Address of the command server."""
    status: str
    symbols: tuple[str, ...]
    """Recorded at all of `intervals`."""
    spare_symbol: str
    """Not recorded; its streams are added and removed."""
    intervals: tuple[Interval, ...]
    open_time: str
    """Of a candle, as one may write it."""


@frozen(kw_only=True)
class Question:
    """A request."""

    kind: str
    server: str
    """Its address."""
    path: str
    """With its query."""
    body: bytes | None = None
    """Of a POST; a GET has none."""

    @property
    def url(self) -> str:
        """Whom to ask what."""
        return f"http://{self.server}{self.path}"


_Item = TypeVar("_Item")
_Ask = Callable[[Topics, int], Question]
"""Words the n-th question of its kind."""


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
    """Each stream is added, and the next time removed."""
    path = "/streams/remove" if nth % 2 else "/streams/add"
    stream = {
        "symbol": topics.spare_symbol,
        "interval": _one_of(topics.intervals, nth // 2).value,
    }
    return Question(kind=path, server=topics.command, path=path, body=msgspec.json.encode(stream))


def _one_of(items: Sequence[_Item], nth: int) -> _Item:
    return items[nth % len(items)]


SHARES: Mapping[_Ask, int] = {
    # Managers and load balancers, all the time.
    _status("/ping"): 40,
    _status("/live"): 10,
    _status("/ready"): 10,
    _command("/status"): 40,
    _command("/symbols"): 20,
    _command("/connections/count"): 20,
    # Programs and people who look after data.
    _coverage: 20,
    _why: 10,
    _command("/v1/limits"): 10,
    _command("/v1/feeds"): 10,
    _command("/v1/subscriptions"): 7,
    # Answers of a megabyte, of which nobody wants many: once a second at the usual rate.
    _status("/metrics"): 1,
    _command("/connections/list"): 1,
    _add_or_remove: 1,
}
"""Of 200 questions so many are of each kind: at the usual rate, so many a second."""


def questions(topics: Topics) -> Iterator[Question]:
    """Endlessly, the kinds mixed as evenly as their shares allow."""
    numbers = {ask: count() for ask in SHARES}
    owed = dict.fromkeys(SHARES, 0)
    whole = sum(SHARES.values())
    while True:
        for ask, share in SHARES.items():
            owed[ask] += share
        due = max(owed, key=owed.__getitem__)
        owed[due] -= whole
        yield due(topics, next(numbers[due]))
