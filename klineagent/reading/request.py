"""Which candles a klines request of the exchange's API asks for. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import msgspec
from attrs import frozen

from klineagent.core.errors import BadRead, NotServed
from klineagent.core.interval import Interval
from klineagent.exchange.venues import SPOT, Venue
from klineagent.storage.reader import END_MS

DEFAULT_LIMIT = 500
# Spot takes times in microseconds, too: from this number on they cannot be milliseconds.
_MICROSECONDS_FROM = 10**15
# The exchange's codes.
_ILLEGAL, _MISSING, _INTERVAL = -1100, -1102, -1120
_SYMBOL, _COMBINATION, _NOT_VALID = -1121, -1128, -1130
_INTEGER = re.compile(r"-?[0-9]{1,19}")
_UTC = {"0", "+0", "-0", "+00:00", "-00:00", "0:00", "00:00"}


CountAbsent = Callable[[int, int], int]
"""A function that counts the candles in [first, end) that do not exist."""


def _none(_first_ms: int, _end_ms: int) -> int:
    return 0


@frozen(kw_only=True)
class CandleRequest:
    """Candles of one series that open in [`since_ms`, `until_ms`], both if they are given.

    At most `limit` of them: the oldest if `is_oldest_first`, else the newest; ascending always.
    """

    symbol: str
    interval: Interval
    since_ms: int | None
    until_ms: int | None
    limit: int
    is_oldest_first: bool

    @property
    def is_for_one(self) -> bool:
        """Whether it asks for nothing but the newest candle."""
        return self.limit == 1 and self.since_ms is None

    def bounds(self, now_ms: int, absent: CountAbsent = _none) -> tuple[int, int]:
        """Return the range of open times, [first, end), that can be in the answer at `now_ms`.

        Candles that are `absent` do not count for the limit, so the range reaches past them.
        """
        last_ms = now_ms if self.until_ms is None else min(self.until_ms, now_ms)
        end_ms = self.interval.next_open(self.interval.open_at(last_ms))
        since_ms = None if self.since_ms is None else self.interval.first_open(self.since_ms)
        candles = self.limit
        while True:
            bounds = self._of(candles, since_ms, end_ms)
            wider = self.limit + absent(*bounds)
            if wider == candles or bounds == (since_ms, end_ms):
                return bounds
            candles = wider

    def _of(self, candles: int, since_ms: int | None, end_ms: int) -> tuple[int, int]:
        """Return the end of [`since_ms`, `end_ms`) that comes first, of so many `candles`."""
        if since_ms is not None and self.is_oldest_first:
            return since_ms, min(end_ms, self.interval.shifted(since_ms, candles))
        first_ms = self.interval.shifted(end_ms, -candles)
        return first_ms if since_ms is None else max(since_ms, first_ms), end_ms


@frozen(kw_only=True)
class CandleRange:
    """Closed candles of one series that open in [`first_ms`, `end_ms`), or the `last` ones."""

    symbol: str
    interval: Interval
    first_ms: int = 0
    end_ms: int | None = None
    last: int | None = None

    def bounds(self, oldest_ms: int, horizon_ms: int) -> tuple[int, int]:
        """Return the range of open times, [first, end), that are covered and over."""
        interval = self.interval
        end_ms = horizon_ms if self.end_ms is None else min(self.end_ms, horizon_ms)
        first_ms = max(interval.first_open(self.first_ms), oldest_ms)
        if self.last is not None:
            first_ms = max(first_ms, interval.shifted(interval.first_open(end_ms), -self.last))
        return first_ms, end_ms

    def reaches_before(self, oldest_ms: int, horizon_ms: int) -> bool:
        """Whether candles are wanted that are older than `oldest_ms`."""
        return self.bounds(0, horizon_ms)[0] < oldest_ms

    def reaches(self, horizon_ms: int, open_ms: int) -> bool:
        """Whether a candle belongs to the range that opened at the horizon."""
        is_asked = self.end_ms is None or open_ms < self.end_ms
        return open_ms == horizon_ms and self.first_ms <= open_ms and is_asked


def read_klines_request(query: Mapping[str, str], venue: Venue) -> CandleRequest:
    """Read a klines request as `venue` does.

    Raises:
        BadRead: the exchange would refuse it, with its code and its text.
    """
    limit = _limit(query, venue)
    symbol, name = query.get("symbol"), query.get("interval")
    if not symbol:
        raise _missing("symbol")
    if not name:
        raise _missing("interval")
    if venue == SPOT and query.get("timeZone", "0") not in _UTC:
        raise NotServed("timeZone: candles are recorded by UTC; --forward asks the exchange")
    interval = {each.value: each for each in venue.intervals}.get(name)
    if interval is None:
        raise BadRead(_INTERVAL, "Invalid interval.")
    since_ms, until_ms = _time(query, "startTime"), _time(query, "endTime")
    if since_ms is not None and until_ms is not None and since_ms > until_ms:
        raise _not_valid("startTime")
    is_oldest_first = since_ms is not None
    if venue.klines_window_ms is not None and since_ms is not None:
        is_oldest_first = False
        if until_ms is None:
            until_ms = since_ms + venue.klines_window_ms
        elif until_ms - since_ms > venue.klines_window_ms:
            raise _not_valid("startTime")
    return CandleRequest(
        symbol=symbol.upper(),
        interval=interval,
        since_ms=since_ms,
        until_ms=until_ms,
        limit=limit,
        is_oldest_first=is_oldest_first,
    )


def read_continuous_request(query: Mapping[str, str], venue: Venue) -> CandleRequest:
    """Read a request for a pair's continuous klines: those of its perpetual contract.

    Raises:
        BadRead: the exchange would refuse it, or the contract is another one.
    """
    for name in ("pair", "contractType"):
        if not query.get(name):
            raise _missing(name)
    if query["contractType"] != "PERPETUAL":
        raise NotServed("klines of perpetual contracts only; --forward asks the exchange")
    symbol = f"{query['pair']}{venue.perpetual_suffix}"
    return read_klines_request({**query, "symbol": symbol}, venue)


def read_symbols(query: Mapping[str, str], venue: Venue) -> tuple[str, ...]:
    """Read which symbols exchangeInfo is asked about; none stands for all. Only spot selects.

    Raises:
        BadRead: the exchange would refuse it, with its code and its text.
    """
    if venue != SPOT or not query.keys() & {"symbol", "symbols"}:
        return ()
    if "symbols" not in query:
        return (query["symbol"],)
    if "symbol" in query:
        raise BadRead(_COMBINATION, "Combination of optional parameters invalid.")
    try:
        return msgspec.json.decode(query["symbols"], type=tuple[str, ...])
    except msgspec.DecodeError as error:
        raise BadRead(_ILLEGAL, "Illegal characters found in parameter 'symbols'.") from error


def not_listed() -> BadRead:
    """The exchange has no such symbol."""
    return BadRead(_SYMBOL, "Invalid symbol.")


def _limit(query: Mapping[str, str], venue: Venue) -> int:
    if "limit" not in query:
        return DEFAULT_LIMIT
    text, most = query["limit"], venue.klines_weights[-1][0]
    if _INTEGER.fullmatch(text) is None:
        raise _missing("limit")
    limit = int(text)
    if venue == SPOT:  # it cuts what is too much
        limit = min(limit, most)
    if not 1 <= limit <= most:
        raise _not_valid("limit")
    return limit


def _time(query: Mapping[str, str], name: str) -> int | None:
    if (text := query.get(name)) is None:
        return None
    if _INTEGER.fullmatch(text) is None or text.startswith("-"):
        raise _missing(name)
    time = int(text)
    # No interval reckons with later times.
    return min(time // 1_000 if time >= _MICROSECONDS_FROM else time, END_MS)


def _missing(name: str) -> BadRead:
    text = f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed."
    return BadRead(_MISSING, text)


def _not_valid(name: str) -> BadRead:
    return BadRead(_NOT_VALID, f"Data sent for parameter '{name}' is not valid.")
