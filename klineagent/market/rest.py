"""The venue's REST side: its symbols."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import msgspec
from attrs import frozen

from klineagent.errors import UNREADABLE, ExchangeRefused, ExchangeUnreachable, reason_of
from klineagent.market.transport import Network
from klineagent.market.venues import Venue

REQUEST_TIMEOUT_S = 15.0
# Weight is counted by the minute; the shortest ban lasts two.
_STAY_AWAY_S = {429: 60.0, 418: 120.0}


@frozen(kw_only=True)
class SymbolInfo:
    """One symbol of the venue, as exchangeInfo tells it."""

    symbol: str
    status: str
    is_trading: bool


class _Symbol(msgspec.Struct):
    symbol: str
    status: str = ""
    contractStatus: str = ""  # noqa: N815 - the wire's name, on COIN-M


class _ExchangeInfo(msgspec.Struct):
    symbols: list[_Symbol]


_decode_exchange_info = msgspec.json.Decoder(_ExchangeInfo).decode


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
    statuses = {each.symbol: getattr(each, venue.status_field) for each in info.symbols}
    return {
        symbol: SymbolInfo(
            symbol=symbol, status=status, is_trading=status in venue.trading_statuses
        )
        for symbol, status in statuses.items()
    }


@frozen(kw_only=True)
class RestClient:
    """Requests to one venue. A refusal is an error with the exchange's own words in it."""

    venue: Venue
    _http: httpx2.AsyncClient

    async def exchange_info(self) -> dict[str, SymbolInfo]:
        """All symbols of the venue by name, trading or not.

        Raises:
            ExchangeUnreachable: no answer.
            ExchangeRefused: an answer that is not the symbols.
        """
        body = await self._get(self.venue.exchange_info_path)
        return read_exchange_info(body, self.venue)

    async def _get(self, path: str) -> bytes:
        try:
            response = await self._http.get(path)
        except httpx2.HTTPError as error:
            raise ExchangeUnreachable(
                f"no answer from {self._http.base_url}: {reason_of(error)}"
            ) from error
        if not response.is_success:
            raise ExchangeRefused(
                f"GET {path}: HTTP {response.status_code} {response.text[:200]}",
                retry_after_s=_retry_after_s(response),
            )
        return response.content


def _retry_after_s(response: httpx2.Response) -> float:
    """How long a limit or a ban asks us to stay away; futures do not promise to say."""
    least_s = _STAY_AWAY_S.get(response.status_code, 0.0)
    told = response.headers.get("Retry-After", "")
    return max(least_s, float(told)) if told.isdecimal() else least_s


@asynccontextmanager
async def open_rest(*, network: Network, venue: Venue, rest_url: str) -> AsyncIterator[RestClient]:
    """A REST client for `venue` at `rest_url`."""
    async with httpx2.AsyncClient(
        base_url=rest_url, transport=network.http_transport(), timeout=REQUEST_TIMEOUT_S
    ) as http:
        yield RestClient(venue=venue, http=http)
