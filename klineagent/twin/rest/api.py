"""The twin's REST API: a request and the time in, status, headers and body out. No I/O.

Its only state is the weight that clients have spent; all clients share one address.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import msgspec
from attrs import define, field, frozen

from klineagent.twin.interval import DAY_MS, MINUTE_MS, SECOND_MS, TwinInterval
from klineagent.twin.market.aggregation import Aggregator
from klineagent.twin.market.candle import Candle
from klineagent.twin.market.market import Listing
from klineagent.twin.market.quarterlies import as_listed
from klineagent.twin.rest.exchange_info import exchange_info
from klineagent.twin.rest.quotes import Quotes
from klineagent.twin.venues import BANNED, TOO_MANY_REQUESTS, VenueRules
from klineagent.twin.wire import Series, kline_row

WEIGHT_HEADER = "X-MBX-USED-WEIGHT-1M"
_DEFAULT_LIMIT = 500
_PLAIN_WEIGHT = 1
# Spot accepts times in microseconds; no time in milliseconds reaches this value.
_INTEGER = re.compile(r"-?[0-9]{1,19}")
_MICROSECONDS_FROM = 100_000_000_000_000
# Two days are computed in a blink; what is longer is made of half days.
_LONG_MS, _PART = 2 * DAY_MS, TwinInterval.H12
_NOT_FOUND = b"<html><body><h2>404 Not found</h2></body></html>"


@frozen
class RestAnswer:
    """An HTTP answer."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


class _BadRequestError(Exception):
    """The request is rejected with the exchange's own code and text."""

    def __init__(self, code: int, text: str) -> None:
        self.code = code
        self.text = text


def _missing(name: str) -> _BadRequestError:
    text = f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed."
    return _BadRequestError(-1102, text)


def _not_valid(name: str) -> _BadRequestError:
    return _BadRequestError(-1130, f"Data sent for parameter '{name}' is not valid.")


@define(kw_only=True)
class RestApi:
    """The REST API of one venue; times are exchange time in milliseconds."""

    venue: VenueRules
    aggregator: Aggregator
    listings: tuple[Listing, ...]
    meter: WeightMeter
    as_listed: Callable[[Listing, int], Listing | None] = as_listed
    """A listing as exchangeInfo shows it at a time; None if it does not."""
    breaches: Counter[str] = field(factory=Counter)
    """Breaches: limits that clients broke, by kind."""
    _by_symbol: dict[str, Listing] = field(init=False)
    _by_name: dict[str, TwinInterval] = field(init=False)
    # The exchangeInfo answer, a megabyte requested every minute, and the values it depends on.
    _info: tuple[int, tuple[Listing, ...], msgspec.Raw] | None = field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self._by_symbol = {listing.symbol: listing for listing in self.listings}
        self._by_name = {interval.value: interval for interval in self.venue.intervals}

    def answer(
        self, method: str, path: str, query: Mapping[str, str], now_ms: int, *, lag_ms: int = 0
    ) -> RestAnswer:
        """Answer a request; it costs its weight even if it is rejected.

        Klines are those of `lag_ms` ago.
        """
        endpoint = path.removeprefix(self.venue.rest_prefix)
        if method != "GET" or not path.startswith(self.venue.rest_prefix):
            return _not_found()
        weight = self._weight(endpoint, query)
        if weight is None:
            return _not_found()
        refusal = self.meter.spend(weight, now_ms)
        if refusal is not None:
            return self._refuse(refusal, now_ms)
        try:
            content = self._content(endpoint, query, now_ms, lag_ms)
        except _BadRequestError as bad:
            return self._json(400, {"code": bad.code, "msg": bad.text})
        return self._json(200, content)

    def draw(self, path: str, query: Mapping[str, str], now_ms: int) -> Iterator[None]:
        """Compute the candles of a long klines answer in parts, which the aggregator then keeps.

        It yields after each part, so that others get their turn: a year of days is half a million
        minutes.
        """
        if not path.endswith("/klines"):
            return
        try:
            series, limit = self._series(query), self._limit(query)
            start_ms, end_ms = _time(query, "startTime"), _time(query, "endTime")
        except _BadRequestError:
            return
        last_ms = now_ms if end_ms is None else min(end_ms, now_ms)
        if start_ms is None:
            start_ms = _opens_before(series.interval, last_ms, limit)
        elif self.venue.klines_window_ms is None:
            length_ms = series.interval.next_open(start_ms) - series.interval.open_at(start_ms)
            last_ms = min(last_ms, start_ms + limit * length_ms)
        start_ms = max(start_ms, series.listing.onboard_ms)
        if last_ms - start_ms < _LONG_MS:
            return
        symbol = series.listing.symbol
        for _ in self.aggregator.between(symbol, _PART, start_ms, last_ms - _LONG_MS, now_ms):
            yield

    def _weight(self, endpoint: str, query: Mapping[str, str]) -> int | None:
        """The weight of a request; None if there is no such endpoint."""
        match endpoint:
            case "/klines":
                return self.venue.klines_weight(_limit_for_weight(query))
            case "/depth":
                return self.venue.depth_weight(_limit_for_weight(query))
            case "/exchangeInfo":
                return self.venue.exchange_info_weight
            case "/time" | "/ping":
                return _PLAIN_WEIGHT
        of_one, of_all = self.venue.ticker_weights.get(endpoint, (None, None))
        return of_one if query.get("symbol") else of_all

    def _content(self, endpoint: str, query: Mapping[str, str], now_ms: int, lag_ms: int) -> object:
        match endpoint:
            case "/klines":
                return self._klines(query, now_ms - lag_ms)
            case "/exchangeInfo":
                return self._exchange_info(now_ms)
            case "/time":
                return {"serverTime": now_ms}
            case "/ping":
                return {}
            case "/depth":
                return self._depth(query, now_ms)
        return self._ticker(endpoint, query, now_ms)

    def _exchange_info(self, now_ms: int) -> msgspec.Raw:
        shown = (self.as_listed(listing, now_ms) for listing in self.listings)
        listings = tuple(listing for listing in shown if listing is not None)
        # Stale like the real one, which may be days old and must not serve as a clock.
        time_ms = now_ms - now_ms % DAY_MS
        if self._info is None or self._info[:2] != (time_ms, listings):
            body = msgspec.json.encode(exchange_info(self.venue, listings, time_ms))
            self._info = time_ms, listings, msgspec.Raw(body)
        return self._info[2]

    def _klines(self, query: Mapping[str, str], now_ms: int) -> list[list[int | str]]:
        limit = self._limit(query)
        series = self._series(query)
        start_ms, end_ms = _time(query, "startTime"), _time(query, "endTime")
        if start_ms is not None and end_ms is not None and start_ms > end_ms:
            raise _not_valid("startTime")
        oldest_first = start_ms is not None
        window_ms = self.venue.klines_window_ms
        if window_ms is not None and start_ms is not None:
            if end_ms is None:
                end_ms = start_ms + window_ms
            elif end_ms - start_ms > window_ms:
                raise _not_valid("startTime")
            oldest_first = False
        last_ms = now_ms if end_ms is None else min(end_ms, now_ms)
        if start_ms is None:
            kept = self._newest(series, last_ms, limit, now_ms)
        else:
            symbol, interval = series.listing.symbol, series.interval
            candles = self.aggregator.between(symbol, interval, start_ms, last_ms, now_ms)
            kept = islice(candles, limit) if oldest_first else deque(candles, maxlen=limit)
        return [kline_row(series, candle) for candle in kept]

    def _newest(self, series: Series, last_ms: int, limit: int, now_ms: int) -> Iterable[Candle]:
        """The newest `limit` candles that exist, which a halt may lie between."""
        listing, interval, span = series.listing, series.interval, limit
        while True:
            start_ms = _opens_before(interval, last_ms, span)
            candles = self.aggregator.between(listing.symbol, interval, start_ms, last_ms, now_ms)
            kept = deque(candles, maxlen=limit)
            # What does not trade has none, however long one looks.
            if len(kept) in {0, limit} or start_ms <= listing.onboard_ms:
                return kept
            span *= 2

    def _quotes(self, listing: Listing, now_ms: int) -> Quotes:
        return Quotes(
            aggregator=self.aggregator,
            listing=listing,
            venue_name=self.venue.name,
            now_ms=now_ms,
        )

    def _depth(self, query: Mapping[str, str], now_ms: int) -> object:
        listing = self._listing(query)
        limit = _limit_for_weight(query) if "limit" in query else self.venue.depth_default_limit
        if limit is None or limit < 1:
            raise _missing("limit")
        allowed = self.venue.depth_limits
        if allowed is not None and limit not in allowed:
            raise _BadRequestError(-4021, f"{limit} is not valid depth limit")
        largest, _ = self.venue.depth_weights[-1]
        return self._quotes(listing, now_ms).depth(min(limit, largest))

    def _ticker(self, endpoint: str, query: Mapping[str, str], now_ms: int) -> object:
        """A ticker: of one symbol an object, of all a list, as COIN-M always answers."""
        is_one = bool(query.get("symbol"))
        tickers = [
            ticker
            for listing in ([self._listing(query)] if is_one else self.listings)
            if (ticker := self._quotes(listing, now_ms).ticker(endpoint)) is not None
        ]
        return tickers[0] if is_one and self.venue.name != "coinm" and tickers else tickers

    def _limit(self, query: Mapping[str, str]) -> int:
        if "limit" not in query:
            return _DEFAULT_LIMIT
        limit = _limit_for_weight(query)
        if limit is None:
            raise _missing("limit")
        if self.venue.cuts_klines_limit:
            limit = min(limit, self.venue.klines_max_limit)
        if not 1 <= limit <= self.venue.klines_max_limit:
            raise _not_valid("limit")
        return limit

    def _series(self, query: Mapping[str, str]) -> Series:
        if not query.get("symbol"):
            raise _missing("symbol")
        if not (name := query.get("interval")):
            raise _missing("interval")
        listing = self._listing(query)
        interval = self._by_name.get(name)
        if interval is None:
            raise _BadRequestError(-1120, "Invalid interval.")
        return Series(listing, interval)

    def _listing(self, query: Mapping[str, str]) -> Listing:
        symbol = query.get("symbol")
        if not symbol:
            raise _missing("symbol")
        listing = self._by_symbol.get(symbol.upper())
        if listing is None:
            raise _BadRequestError(-1121, "Invalid symbol.")
        return listing

    def _refuse(self, status: int, now_ms: int) -> RestAnswer:
        self.breaches[f"rest_{status}"] += 1
        text = self.venue.too_many_requests
        if status == BANNED:
            text = self.venue.banned.format(self.meter.banned_until_ms)
        retry_after = ("Retry-After", str(self.meter.retry_after_s(now_ms)))
        return self._json(status, {"code": -1003, "msg": text}, retry_after)

    def _json(self, status: int, content: Any, *headers: tuple[str, str]) -> RestAnswer:
        return RestAnswer(
            status,
            (
                ("Content-Type", "application/json;charset=UTF-8"),
                (WEIGHT_HEADER, str(self.meter.used)),
                *headers,
            ),
            msgspec.json.encode(content),
        )


def _not_found() -> RestAnswer:
    return RestAnswer(404, (("Content-Type", "text/html"),), _NOT_FOUND)


def _limit_for_weight(query: Mapping[str, str]) -> int | None:
    """The `limit` of a request; None if it is missing or no number."""
    text = query.get("limit", "")
    return int(text) if _INTEGER.fullmatch(text) else None


def _time(query: Mapping[str, str], name: str) -> int | None:
    text = query.get(name)
    if text is None:
        return None
    if _INTEGER.fullmatch(text) is None or text.startswith("-"):
        raise _missing(name)
    time = int(text)
    return time // 1_000 if time >= _MICROSECONDS_FROM else time


def _opens_before(interval: TwinInterval, last_ms: int, count: int) -> int:
    """Open time of the candle `count - 1` before the one that contains `last_ms`."""
    open_ms = interval.open_at(last_ms)
    for _ in range(count - 1):
        if open_ms <= 0:
            break
        open_ms = interval.open_at(open_ms - 1)
    return open_ms


# How many 429 answers lead to a ban is not published. The first ban lasts two minutes, the longest
# three days; that bans double in between is an assumption.
_REFUSALS_UNTIL_BAN = 5
_FIRST_BAN_MS = 2 * MINUTE_MS
_LONGEST_BAN_MS = 3 * DAY_MS


@define
class WeightMeter:
    """The weight that one address has used in the exchange's current minute, and its bans."""

    limit: int
    used: int = 0
    most_used: int = 0
    """The most that was used in any minute so far."""
    banned_until_ms: int = 0
    _minute: int = 0
    _refusals: int = 0
    _next_ban_ms: int = _FIRST_BAN_MS

    def spend(self, weight: int, now_ms: int) -> int | None:
        """Spend `weight`; return None, or the status of the refusal: 429 or 418."""
        if now_ms < self.banned_until_ms:
            return BANNED
        minute = TwinInterval.M1.open_at(now_ms)
        if minute != self._minute:
            self._minute = minute
            self.used = self._refusals = 0
        self.used += weight
        self.most_used = max(self.most_used, self.used)
        if self.used <= self.limit:
            return None
        self._refusals += 1
        if self._refusals <= _REFUSALS_UNTIL_BAN:
            return TOO_MANY_REQUESTS
        self.banned_until_ms = now_ms + self._next_ban_ms
        self._next_ban_ms = min(2 * self._next_ban_ms, _LONGEST_BAN_MS)
        return BANNED

    def retry_after_s(self, now_ms: int) -> int:
        """Whole seconds until the end of the ban or of the minute; at least one."""
        end_ms = max(self.banned_until_ms, self._minute + MINUTE_MS)
        return max(1, -(-(end_ms - now_ms) // SECOND_MS))
