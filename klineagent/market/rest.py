"""The venue's REST side: its symbols, its clock, its candles."""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from email.utils import parsedate_to_datetime
from sys import intern
from typing import NoReturn

import httpx2
import msgspec
import trio
from attrs import define, field, frozen

from klineagent.backoff import Backoff
from klineagent.errors import (
    UNREADABLE,
    BadFrame,
    ExchangeError,
    ExchangeRefused,
    ExchangeUnreachable,
    reason_of,
)
from klineagent.kline import SECOND_MS, Interval
from klineagent.market.budget import WeightBudget
from klineagent.market.clock import ExchangeTime
from klineagent.market.network import Network
from klineagent.market.venues import Venue
from klineagent.market.wire import RestCandle, decode_candles

REQUEST_TIMEOUT_S = 10.0
# More urgent than any candle: what is traded, and what time it is.
FIRST_OF_ALL = -1
# A stream that says nothing for this long no longer tells the time.
SILENT_CLOCK_S = 90.0
# As long as nothing is known of it.
ASK_CLOCK_AGAIN_S = 1.0
_TOO_MANY, _BANNED = 429, 418
# The request is wrong, and will be again: an unknown symbol, an interval there is not.
_OUR_FAULT = frozenset({400, 404})
# The shortest ban there is, where nobody says how long this one lasts.
_BAN_S = 120.0
_LONGEST_BAN_S = 3 * 86_400.0
LEAST_STAY_AWAY_S = 5.0
_BANNED_UNTIL = re.compile(r"banned until (\d+)")


@frozen(kw_only=True)
class SymbolInfo:
    """One symbol of the venue, as exchangeInfo tells it."""

    symbol: str
    status: str
    is_trading: bool
    is_listed: bool
    """Whether it trades or pauses; not yet, or no more, if not."""
    base: str = ""
    quote: str = ""
    contract: str = ""
    """PERPETUAL, CURRENT_QUARTER, ...; empty on spot."""
    onboard_ms: int = 0
    """When it was listed; 0 where the venue does not say."""


class _Symbol(msgspec.Struct):
    symbol: str
    status: str = ""
    contractStatus: str = ""  # noqa: N815 - the wire's name, on COIN-M
    baseAsset: str = ""  # noqa: N815 - the wire's name
    quoteAsset: str = ""  # noqa: N815 - the wire's name
    contractType: str = ""  # noqa: N815 - the wire's name, on futures
    onboardDate: int = 0  # noqa: N815 - the wire's name, on futures


class _ExchangeInfo(msgspec.Struct):
    symbols: list[_Symbol]


class _ServerTime(msgspec.Struct):
    serverTime: int  # noqa: N815 - the wire's name


@define(eq=False)
class RestCounts:
    """What became of requests so far."""

    requests: int = 0
    refused: int = 0
    """The exchange named a limit, or a ban. It should never have to."""
    failed: int = 0
    """No answer, or none that could be used."""


def _backoff() -> Backoff:
    return Backoff(first_s=0.5, most_s=10)


_decode_exchange_info = msgspec.json.Decoder(_ExchangeInfo).decode
_decode_server_time = msgspec.json.Decoder(_ServerTime).decode


def read_exchange_info(body: bytes, venue: Venue) -> dict[str, SymbolInfo]:
    """The symbols in an exchangeInfo answer of `venue`.

    Raises:
        ExchangeRefused: the answer is not one.
    """
    try:
        info = _decode_exchange_info(body)
    except UNREADABLE as error:
        raise ExchangeRefused(f"exchangeInfo cannot be read: {error}") from error
    if not info.symbols:
        raise ExchangeRefused("exchangeInfo lists no symbol at all")
    return {each.symbol: _info_of(each, venue) for each in info.symbols}


def _info_of(symbol: _Symbol, venue: Venue) -> SymbolInfo:
    status = getattr(symbol, venue.status_field)
    return SymbolInfo(
        symbol=symbol.symbol,
        # The same few words a thousand times, and anew each minute.
        status=intern(status),
        is_trading=status in venue.trading_statuses,
        is_listed=status not in venue.unlisted_statuses,
        base=symbol.baseAsset,
        quote=intern(symbol.quoteAsset),
        # "CURRENT_QUARTER DELIVERING" is in its last hour, and what it was.
        contract=intern(symbol.contractType.partition(" ")[0]),
        onboard_ms=symbol.onboardDate,
    )


@frozen
class Page:
    """Candles of one series to ask for, by the open times of the first and the last."""

    first_ms: int
    last_ms: int
    limit: int


@frozen
class CandleAnswer:
    """What the exchange had of a page, ascending."""

    candles: list[RestCandle]
    asked_at_ms: int
    """Exchange time, and so a time at which the exchange had not answered yet."""


@frozen
class _Asked:
    """When a request was sent."""

    at: float
    """By Trio's clock."""
    at_ms: int
    """By the exchange's."""


@define(kw_only=True, eq=False)
class RestClient:
    """Requests to one venue, all of them within one budget.

    A request that is refused or not answered has made everybody stand down; who tries again need
    not wait by himself. A refusal is an error with the exchange's own words in it.
    """

    venue: Venue
    time: ExchangeTime
    budget: WeightBudget
    counts: RestCounts = field(factory=RestCounts, init=False)
    _http: httpx2.AsyncClient
    _backoff: Backoff = field(factory=_backoff, init=False)
    _failed_at: float = field(default=-math.inf, init=False)
    """When the last failure was noted that everybody stood down for."""

    def is_back(self) -> None:
        """The exchange has just answered elsewhere: what failed here may be tried again."""
        self._backoff = _backoff()
        self.budget.is_back()

    async def exchange_info(self) -> dict[str, SymbolInfo]:
        """All symbols of the venue by name, trading or not.

        Raises:
            ExchangeUnreachable: no answer.
            ExchangeRefused: an answer that is not the symbols.
        """
        weight = self.venue.exchange_info_weight
        body, _ = await self._get(self.venue.exchange_info_path, {}, weight, FIRST_OF_ALL)
        return read_exchange_info(body, self.venue)

    async def candles(
        self, symbol: str, interval: Interval, page: Page, urgency: int
    ) -> CandleAnswer:
        """The candles of `page`, the one that is still open among them.

        Raises:
            ExchangeUnreachable: no answer, or one that cannot be read.
            ExchangeRefused: the answer was no.
        """
        query = {
            "symbol": symbol,
            "interval": interval.value,
            "startTime": page.first_ms,
            "endTime": page.last_ms,
            "limit": page.limit,
        }
        weight = self.venue.klines_weight(page.limit)
        body, asked = await self._get(self.venue.klines_path, query, weight, urgency)
        try:
            return CandleAnswer(decode_candles(body), asked.at_ms)
        except BadFrame as error:
            self._stand_down(asked)
            raise ExchangeUnreachable(f"candles of {symbol}: {error}") from error

    async def tell_time(self) -> None:
        """Ask the exchange for its time.

        Raises:
            ExchangeUnreachable: no answer, or one that cannot be read.
            ExchangeRefused: the answer was no.
        """
        body, _ = await self._get(self.venue.time_path, {}, 1, FIRST_OF_ALL)
        try:
            self.time.hear(_decode_server_time(body).serverTime)
        except UNREADABLE as error:
            raise ExchangeUnreachable(f"the exchange's time cannot be read: {error}") from error

    async def keep_clock(self) -> NoReturn:
        """Ask for the time at first, and whenever the streams say nothing: a machine may sleep."""
        while True:
            if self.time.silent_s() >= SILENT_CLOCK_S:
                with suppress(ExchangeError):  # the symbols' keeper tells of it
                    await self.tell_time()
            await trio.sleep(SILENT_CLOCK_S if self.time.is_known else ASK_CLOCK_AGAIN_S)

    async def _get(
        self, path: str, query: Mapping[str, str | int], weight: int, urgency: int
    ) -> tuple[bytes, _Asked]:
        """The body of an answer, and when it was asked for."""
        async with self.budget.spend(weight, urgency):
            asked = _Asked(trio.current_time(), self.time.now_ms())
            self.counts.requests += 1
            try:
                with trio.fail_after(REQUEST_TIMEOUT_S):
                    response = await self._http.get(path, params=dict(query))
            except (httpx2.HTTPError, trio.TooSlowError) as error:
                self._stand_down(asked)
                raise ExchangeUnreachable(
                    f"no answer from {self._http.base_url.host}: {reason_of(error)}"
                ) from error
            self._heed(response, asked)
        return response.content, asked

    def _heed(self, response: httpx2.Response, asked: _Asked) -> None:
        """Obey what the answer says about limits.

        Raises:
            ExchangeUnreachable: the exchange is in trouble.
            ExchangeRefused: it will not do what was asked.
        """
        status, text = response.status_code, response.text[:200]
        reason = f"GET {response.request.url.path}: HTTP {status} {text}"
        if status in {_TOO_MANY, _BANNED}:
            self.counts.refused += 1
            self.budget.stay_away(self._stay_away_s(response))
            raise ExchangeUnreachable(reason)
        if not response.is_success and status not in _OUR_FAULT:
            self._stand_down(asked)
            raise ExchangeUnreachable(reason)
        self._backoff = _backoff()
        used = response.headers.get("X-MBX-USED-WEIGHT-1M", "")
        self.budget.told(int(used) if used.isdecimal() else 0)
        if status in _OUR_FAULT:
            raise ExchangeRefused(reason)

    def _stand_down(self, asked: _Asked) -> None:
        """A request has failed; others that were under way with it are the same failure."""
        self.counts.failed += 1
        if asked.at >= self._failed_at:
            self._failed_at = trio.current_time()
            self.budget.stand_down(self._backoff.after())

    def _stay_away_s(self, response: httpx2.Response) -> float:
        """How long a limit or a ban asks us to stay away; futures do not promise to say."""
        told = response.headers.get("Retry-After", "")
        told_s = float(told) if told.isdecimal() else 0.0
        if response.status_code == _TOO_MANY:
            return max(told_s, self.budget.minute_left_s())
        until = _BANNED_UNTIL.search(response.text)
        now_ms = self.time.now_ms() if self.time.is_known else _sent_at_ms(response)
        if until is None or now_ms is None:
            return told_s or _BAN_S
        # A ban may be told that is over by our clock, and again by the next answer.
        left_s = min((int(until[1]) - now_ms) / SECOND_MS, _LONGEST_BAN_S)
        return max(told_s, left_s, LEAST_STAY_AWAY_S)


def _sent_at_ms(response: httpx2.Response) -> int | None:
    """When `response` was sent, to the second; None if it does not say."""
    try:
        sent_at = parsedate_to_datetime(response.headers.get("Date", ""))
    except ValueError:
        return None
    return int(sent_at.timestamp()) * SECOND_MS


@asynccontextmanager
async def open_rest(
    *, network: Network, venue: Venue, rest_url: str, time: ExchangeTime
) -> AsyncIterator[RestClient]:
    """A REST client for `venue` at `rest_url` that sets `time` where nothing else does."""
    budget = WeightBudget(time=time, weight_per_minute=venue.weight_per_minute)
    async with (
        httpx2.AsyncClient(base_url=rest_url, transport=network.http_transport()) as http,
        trio.open_nursery() as nursery,
    ):
        client = RestClient(venue=venue, time=time, budget=budget, http=http)
        nursery.start_soon(budget.keep_time)
        nursery.start_soon(client.keep_clock)
        yield client
        nursery.cancel_scope.cancel(reason="nothing more is asked for")
