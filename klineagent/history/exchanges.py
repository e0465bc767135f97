"""The exchange at the venues from which history is imported."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import trio
from attrs import define

from klineagent.core.errors import ExchangeError
from klineagent.exchange.budget import open_weight_pools
from klineagent.exchange.clock.clock import ExchangeTime
from klineagent.exchange.network import Network
from klineagent.exchange.rest import RestClient, open_rest
from klineagent.exchange.rest_answers import SymbolInfo, SymbolList
from klineagent.exchange.turns import UNHURRIED
from klineagent.exchange.venues import Venue

KNOWN_WITHIN_S = 15.0
AGAIN_AFTER_S = 1.0


@define(eq=False)
class VenueExchange:
    """The exchange of one venue: its time, its symbols, and its candles within our weight."""

    rest: RestClient
    listings: Mapping[str, SymbolInfo]
    """All symbols by name, trading or not."""
    urgency: int = UNHURRIED
    """That of requests for candles."""

    def knows(self, symbol: str) -> bool:
        """Whether the exchange answers for `symbol`."""
        return symbol in self.listings

    def is_listed(self, symbol: str) -> bool:
        """Whether `symbol` trades, or may trade again."""
        info = self.listings.get(symbol)
        return info is not None and info.is_listed

    def trades(self, symbol: str) -> bool:
        """Whether `symbol` trades now."""
        info = self.listings.get(symbol)
        return info is not None and info.is_trading


@asynccontextmanager
async def open_exchange_of(
    venues: Sequence[Venue],
    rest_url_of: Callable[[Venue], str],
    network: Network,
    *,
    is_simulated: bool = False,
) -> AsyncIterator[dict[str, VenueExchange]]:
    """Open the exchange at `venues`, by their names: those that answer, for it may be blocked here.

    They spend from weight pools as an agent does, and subtract what others at the same address
    spend, as far as the exchange reports it.
    """
    found: dict[str, VenueExchange] = {}
    async with open_weight_pools() as pools, AsyncExitStack() as opened:
        for venue in venues:
            rest = await opened.enter_async_context(
                open_rest(
                    network=network,
                    venue=venue,
                    rest_url=rest_url_of(venue),
                    time=ExchangeTime(is_simulated=is_simulated),
                    pools=pools,
                )
            )
            with trio.move_on_after(KNOWN_WITHIN_S):
                await rest.time.known()
                listed = await _symbols(rest)
                found[venue.name] = VenueExchange(rest, known_of(listed.symbols, listed.odd_names))
        yield found


def known_of(
    symbols: Mapping[str, SymbolInfo], odd_names: Iterable[str]
) -> Mapping[str, SymbolInfo]:
    """Return `symbols` and those that are listed but could not be read: these may trade."""
    odd = {
        name: SymbolInfo(symbol=name, status="", is_trading=True, is_listed=True)
        for name in odd_names
    }
    return odd | dict(symbols)


async def _symbols(rest: RestClient) -> SymbolList:
    while True:
        try:
            return await rest.exchange_info()
        except ExchangeError:
            await trio.sleep(AGAIN_AFTER_S)
