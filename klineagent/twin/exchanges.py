"""Exchanges side by side: one clock for all, one weight meter for each pool of theirs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from klineagent.twin.clock import ExchangeClock
from klineagent.twin.exchange import Exchange, open_exchange
from klineagent.twin.market.market import Market
from klineagent.twin.rest.api import WeightMeter
from klineagent.twin.venues import VenueRules, venue_named


@asynccontextmanager
async def open_exchanges(
    markets: Mapping[str, Market],
    *,
    speed: float = 1.0,
    tick_ms: int | None = None,
    seed: int = 0,
    rate: float | None = None,
) -> AsyncIterator[Mapping[str, Exchange]]:
    """Run an exchange for each venue in `markets` while the block lasts, and yield them by venue.

    Their clock starts when the last of the markets does. `rate` is that of all together, which they
    share as their events do at worst; for the others see `open_exchange`.

    Raises:
        ConfigError: there is no venue of such a name.
    """
    venues = {name: venue_named(name) for name in markets}
    clock = ExchangeClock(start_ms=max(each.start_ms for each in markets.values()), speed=speed)
    meters = {each.weight_pool: WeightMeter(each.weight_per_minute) for each in venues.values()}
    rates = shared_rates(rate, venues.values())
    async with AsyncExitStack() as running:
        yield {
            name: await running.enter_async_context(
                open_exchange(
                    market,
                    venues[name],
                    tick_ms=tick_ms,
                    seed=seed,
                    rate=rates[name],
                    clock=clock,
                    meter=meters[venues[name].weight_pool],
                )
            )
            for name, market in markets.items()
        }


def shared_rates(rate: float | None, venues: Collection[VenueRules]) -> Mapping[str, float | None]:
    """Divide a rate among `venues` in the proportions of their events at worst."""
    total = sum(each.messages_per_second for each in venues)
    return {each.name: rate and rate * each.messages_per_second / total for each in venues}
