"""The REST client of one venue: its symbols, its clock, its candles."""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime

import httpx2
import trio
from attrs import define, field, frozen

from klineagent.core.errors import (
    BadFrame,
    ExchangeRefused,
    ExchangeUnreachable,
    reason_of,
)
from klineagent.core.interval import SECOND_MS, Interval
from klineagent.core.retry import Backoff, Burst
from klineagent.exchange.budget import WeightBudget, WeightPools
from klineagent.exchange.clock.clock import ExchangeTime
from klineagent.exchange.clock.timekeeper import Timekeeper
from klineagent.exchange.learned_weights import Kind, LearnedWeights, Query, Sent
from klineagent.exchange.network import Network
from klineagent.exchange.rest_answers import (
    SymbolList,
    read_candles,
    read_exchange_info,
    read_server_time,
)
from klineagent.exchange.turns import FORWARDED, UNHURRIED
from klineagent.exchange.venues import Venue
from klineagent.exchange.wire import RestCandle

REQUEST_TIMEOUT_S = 10.0
# The urgency of requests for symbols and for the time: more urgent than any candle.
FIRST_OF_ALL = -1
_TOO_MANY, _BANNED = 429, 418
# The request is wrong, and repeating it is no use: an unknown symbol or interval.
_OUR_FAULT = frozenset({400, 404})
# The exchange's shortest ban, assumed where an answer does not say how long a ban lasts.
_BAN_S = 120.0
_LONGEST_BAN_S = 3 * 86_400.0
# A limit ends with its minute; an answer that says a day is a mistake of the exchange.
_LONGEST_LIMIT_S = 3600.0
LEAST_LIMIT_S = 5.0
# Of answers that are passed on. The longest known, tickers of all symbols of spot, is 2 MB.
MOST_BYTES = 16 * 1024**2
_USED_WEIGHT = "X-MBX-USED-WEIGHT-1M"
_PASSED_ON = ("Content-Type", "Retry-After", "X-MBX-USED-WEIGHT", _USED_WEIGHT)
_BANNED_UNTIL = re.compile(r"banned until (\d{13})\b")
# Longest number that is believed in a header.
_MOST_DIGITS = 9


@define(eq=False)
class RestCounts:
    """Counts requests by their outcome, since the start."""

    requests: int = 0
    refused: int = 0
    """Requests that the exchange answered with a limit or a ban. There should be none."""
    failed: int = 0
    """Requests without an answer, or without a usable one."""
    odd: int = 0
    """Elements of answers that were left out because they cannot be true."""


def _backoff() -> Backoff:
    return Backoff(first_s=0.5, most_s=10)


@frozen
class Page:
    """A range of candles to request: open times of the first and last, and the row limit."""

    first_ms: int
    last_ms: int
    limit: int


@frozen
class CandleAnswer:
    """The exchange's answer to a page: its candles, ascending."""

    candles: list[RestCandle]
    asked_at_ms: int
    """The exchange's time when the request was sent, so not later than the answer was made."""
    odd: int = 0
    """How many rows were left out because they are no valid candles, or two rows contradict."""


@frozen
class RawAnswer:
    """An answer as the exchange gave it, whatever its status."""

    status: int
    headers: dict[str, str]
    """Those that concern a client."""
    body: bytes


@frozen
class _Asked:
    """The times at which a request was sent."""

    at: float
    """By Trio's clock."""
    at_ms: int
    """By the exchange's clock."""


@define(kw_only=True, eq=False)
class RestClient:
    """Makes requests to one venue within one weight budget.

    A request that is refused or not answered makes all requests back off, so callers may retry
    without a delay of their own. The error of a refusal quotes the exchange.
    """

    venue: Venue
    time: ExchangeTime
    budget: WeightBudget
    counts: RestCounts = field(factory=RestCounts, init=False)
    weights: LearnedWeights = field(factory=LearnedWeights, init=False)
    """Of the requests that are passed on."""
    _http: httpx2.AsyncClient
    _backoff: Backoff = field(factory=_backoff, init=False)
    _failed_at: float = field(default=-math.inf, init=False)
    """When the last failure was noted that started a backoff."""
    last_error: str = field(default="", init=False)
    """Why the last failed request failed; empty if none ever did."""
    _oddities: Burst = field(factory=lambda: Burst("odd_elements"), init=False)
    _refusals: Burst = field(factory=lambda: Burst("limit_named"), init=False)

    def end_backoff(self) -> None:
        """End the backoff: the exchange has just answered over a stream."""
        self._backoff = _backoff()
        self.budget.end_backoff()

    async def exchange_info(self) -> SymbolList:
        """Request all symbols of the venue, trading or not.

        Raises:
            ExchangeUnreachable: no answer came.
            ExchangeRefused: the answer is no list of symbols.
        """
        body = await self.exchange_info_body(FIRST_OF_ALL)
        listed = await read_exchange_info(body, self.venue)
        self._leave_out(listed.odd, "symbols")
        return listed

    async def exchange_info_body(self, urgency: int = UNHURRIED) -> bytes:
        """Request the same; return the answer as it is.

        Raises:
            ExchangeUnreachable: no answer came.
            ExchangeRefused: the exchange refused the request.
        """
        weight = self.venue.exchange_info_weight
        body, _ = await self._get(self.venue.exchange_info_path, {}, weight, urgency)
        return body

    async def candles(
        self,
        symbol: str,
        interval: Interval,
        page: Page,
        urgency: int,
        waiting: trio.CancelScope | None = None,
    ) -> CandleAnswer:
        """Request the candles of `page`; one that is still open may be among them.

        Raises:
            NotSent: `waiting` was cancelled while the request waited for its turn.
            ExchangeUnreachable: no answer came, or it cannot be read.
            ExchangeRefused: the exchange refused the request.
        """
        query = {
            "symbol": symbol,
            "interval": interval.value,
            "startTime": page.first_ms,
            "endTime": page.last_ms,
            "limit": page.limit,
        }
        weight = self.venue.klines_weight(page.limit)
        body, asked = await self._get(self.venue.klines_path, query, weight, urgency, waiting)
        try:
            rows = read_candles(body)
        except BadFrame as error:
            self._back_off(asked)
            raise ExchangeUnreachable(f"candles of {symbol}: {error}") from error
        self._leave_out(rows.odd, f"candles of {symbol}")
        return CandleAnswer(rows.candles, asked.at_ms, rows.odd)

    async def server_time(self) -> tuple[int, float]:
        """Request the exchange's time; return it with Trio's time at which it was requested.

        Raises:
            ExchangeUnreachable: no answer came.
            ExchangeRefused: the exchange refused the request.
            BadFrame: the answer cannot be read.
        """
        body, asked = await self._get(self.venue.time_path, {}, 1, FIRST_OF_ALL)
        try:
            return read_server_time(body), asked.at
        except BadFrame:
            self.counts.failed += 1  # without a backoff: candles may be answered as well as ever
            raise

    def weight_of(self, path: str, query: Query) -> int:
        """Return the weight to expect of a request that is passed on."""
        weight = self.weights.of(Kind.of(path, query))
        # One that weighs more than a minute's share is sent alone in its minute.
        return min(weight, self.budget.pool.most_forwarded)

    async def pass_on(self, path: str, query: Query, waiting: trio.CancelScope) -> RawAnswer:
        """Make a request for a program that reads; its failure is no reason to back off.

        Raises:
            NotSent: `waiting` was cancelled while the request waited for its turn.
            ExchangeUnreachable: no answer came, or one that is too long.
        """
        weight = self.weight_of(path, query)
        async with self.budget.spend(weight, FORWARDED, waiting):
            sent = Sent.to(self.budget.pool, weight)
            self.counts.requests += 1
            try:
                with trio.fail_after(REQUEST_TIMEOUT_S):
                    async with self._http.stream("GET", path, params=[*query]) as response:
                        body = await _read(response)
            except (httpx2.HTTPError, trio.TooSlowError) as error:
                self.counts.failed += 1
                raise ExchangeUnreachable(self._no_answer(error)) from error
            used = _number(response.headers.get(_USED_WEIGHT, ""))
            self.weights.learn(Kind.of(path, query), sent, self.budget.pool, used)
            self.budget.pool.report_used(used)
            if response.status_code in {_TOO_MANY, _BANNED}:
                self._obey(response, body.decode(errors="replace"))
        headers = {name: response.headers[name] for name in _PASSED_ON if name in response.headers}
        return RawAnswer(response.status_code, headers, body)

    async def _get(
        self,
        path: str,
        query: Mapping[str, str | int],
        weight: int,
        urgency: int,
        waiting: trio.CancelScope | None = None,
    ) -> tuple[bytes, _Asked]:
        """Make a request; return the body of the answer, and when the request was sent."""
        async with self.budget.spend(weight, urgency, waiting):
            asked = _Asked(trio.current_time(), self.time.now_ms())
            self.counts.requests += 1
            try:
                with trio.fail_after(REQUEST_TIMEOUT_S):
                    response = await self._http.get(path, params=dict(query))
            except (httpx2.HTTPError, trio.TooSlowError) as error:
                self._back_off(asked)
                self.last_error = self._no_answer(error)
                raise ExchangeUnreachable(self.last_error) from error
            self._apply_limits(response, asked)
        return response.content, asked

    def _apply_limits(self, response: httpx2.Response, asked: _Asked) -> None:
        """Apply the limits that the answer reports.

        Raises:
            ExchangeUnreachable: the exchange named a limit, or failed.
            ExchangeRefused: the exchange refused the request.
        """
        status = response.status_code
        text = response.content[:200].decode(errors="replace")  # of megabytes, where all is well
        reason = _reason(response, text)
        if not response.is_success:
            self.last_error = reason
        if status in {_TOO_MANY, _BANNED}:
            self._obey(response, response.text)
            raise ExchangeUnreachable(reason)
        if not response.is_success and status not in _OUR_FAULT:
            self._back_off(asked)
            raise ExchangeUnreachable(reason)
        self._backoff = _backoff()
        self.budget.report_used(_number(response.headers.get(_USED_WEIGHT, "")))
        if status in _OUR_FAULT:
            raise ExchangeRefused(reason)

    def _no_answer(self, error: Exception) -> str:
        is_late = isinstance(error, trio.TooSlowError)
        reason = f"none within {REQUEST_TIMEOUT_S:g} s" if is_late else reason_of(error)
        return f"no answer from {self._http.base_url.host}: {reason}"

    def _obey(self, response: httpx2.Response, text: str) -> None:
        """Obey the limit or ban that an answer names; `text` is its body."""
        self.counts.refused += 1
        self._refusals.happens(_reason(response, text[:200]))
        is_ban = response.status_code == _BANNED
        obey = self.budget.obey_ban if is_ban else self.budget.obey_limit
        obey(self._limit_lasts_s(response, text))

    def _leave_out(self, odd: int, of: str) -> None:
        """Count and log elements that were left out of an answer."""
        self.counts.odd += odd
        if odd:
            self._oddities.happens(of, odd)

    def _back_off(self, asked: _Asked) -> None:
        """Back off after a failed request; requests under way with it count as one failure."""
        self.counts.failed += 1
        if asked.at >= self._failed_at:
            self._failed_at = trio.current_time()
            self.budget.back_off(self._backoff.after())

    def _limit_lasts_s(self, response: httpx2.Response, text: str) -> float:
        """Return how many seconds a limit or ban lasts; on futures answers need not say it."""
        named_s = float(_number(response.headers.get("Retry-After", "")))
        if response.status_code == _TOO_MANY:
            return min(max(named_s, self.budget.minute_left_s()), _LONGEST_LIMIT_S)
        until = _BANNED_UNTIL.search(text)
        now_ms = self.time.now_ms() if self.time.is_known else _sent_at_ms(response)
        if until is None or now_ms is None:
            return min(named_s, _LONGEST_BAN_S) or _BAN_S
        # A ban may be over by our clock, and then the next answer names it again.
        left_s = (int(until[1]) - now_ms) / SECOND_MS
        return min(max(named_s, left_s, LEAST_LIMIT_S), _LONGEST_BAN_S)


async def _read(response: httpx2.Response) -> bytes:
    """Return the body of an answer that is being received.

    Raises:
        HTTPError: it cannot be read, or is too long.
    """
    body = bytearray()
    async for part in response.aiter_bytes():
        body += part
        if len(body) > MOST_BYTES:
            raise httpx2.DecodingError(f"it is longer than {MOST_BYTES // 1024**2} MB")
    return bytes(body)


def _reason(response: httpx2.Response, text: str) -> str:
    return f"GET {response.request.url.path}: HTTP {response.status_code} {text}"


def _number(text: str) -> int:
    """Return the number in a header; 0 if it holds none."""
    return int(text) if text.isdecimal() and len(text) <= _MOST_DIGITS else 0


def _sent_at_ms(response: httpx2.Response) -> int | None:
    """Return when `response` was sent, to the second; None if it does not say."""
    try:
        sent_at = parsedate_to_datetime(response.headers.get("Date", ""))
        return int(sent_at.timestamp()) * SECOND_MS
    except (ValueError, OverflowError):
        return None


@asynccontextmanager
async def open_rest(
    *, network: Network, venue: Venue, rest_url: str, time: ExchangeTime, pools: WeightPools
) -> AsyncIterator[RestClient]:
    """Open a REST client for `venue` at `rest_url`, and keep `time` right with it."""
    # The library's own timeout applies to each phase of a request; ours covers all of it.
    http = httpx2.AsyncClient(base_url=rest_url, transport=network.http_transport(), timeout=None)
    with pools.budget(venue, time) as budget:
        async with http, trio.open_nursery() as nursery:
            client = RestClient(venue=venue, time=time, budget=budget, http=http)
            nursery.start_soon(Timekeeper(time, client.server_time).keep)
            yield client
            nursery.cancel_scope.cancel(reason="nothing more is asked for")
