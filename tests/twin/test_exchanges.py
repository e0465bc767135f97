from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from klineagent.core.errors import ConfigError
from klineagent.twin.exchange import Exchange
from klineagent.twin.exchanges import open_exchanges, shared_rates
from klineagent.twin.feed.firehose import MAX_RATE
from klineagent.twin.market.random import RandomMarket
from klineagent.twin.venues import COINM, SPOT, USDM
from tests.twin.samples import START_MS


@asynccontextmanager
async def running(*venues: str) -> AsyncIterator[Mapping[str, Exchange]]:
    """Exchanges of these venues; each market starts a minute after the one before it."""
    markets = {
        name: RandomMarket(symbols=2, seed=7, start_ms=START_MS + number * 60_000, venue_name=name)
        for number, name in enumerate(venues)
    }
    async with open_exchanges(markets) as exchanges:
        yield exchanges


async def used_weight(exchange: Exchange) -> str:
    """What the header says after a request of weight 1."""
    answer = await exchange.answer("GET", f"{exchange.venue.rest_prefix}/ping", {})
    assert answer is not None
    return dict(answer.headers)["X-MBX-USED-WEIGHT-1M"]


async def test_all_exchanges_share_a_clock(autojump_clock: MockClock) -> None:
    """It starts when the last of their markets does."""
    async with running("usdm", "spot", "coinm") as exchanges:
        await trio.sleep(10)
        times = {exchange.clock.now_ms() for exchange in exchanges.values()}
        assert times == {START_MS + 2 * 60_000 + 10_000}


async def test_both_futures_venues_use_one_weight_and_spot_its_own() -> None:
    """USD-M and COIN-M are one pool since 2026-06."""
    async with running("usdm", "spot", "coinm") as exchanges:
        assert [await used_weight(exchanges[name]) for name in ("usdm", "coinm", "spot")] == [
            "1",
            "2",
            "1",
        ]


async def test_weight_that_both_venues_used_refuses_either() -> None:
    """The breach is counted where the request was refused."""
    async with running("usdm", "coinm") as exchanges:
        usdm, coinm = exchanges["usdm"], exchanges["coinm"]
        usdm.meter.spend(2_400, usdm.clock.now_ms())
        answer = await coinm.answer("GET", "/dapi/v1/ping", {})
        assert answer is not None
        assert answer.status == 429
        assert (coinm.breaches["rest_429"], usdm.breaches["rest_429"]) == (1, 0)


async def test_a_symbol_of_two_venues_has_other_candles_on_each() -> None:
    """A row that was stored for the wrong venue is a wrong row."""
    async with running("usdm", "spot") as exchanges:
        futures, spot = (
            exchange.market.minute("BTCUSDT", START_MS) for exchange in exchanges.values()
        )
        assert futures is not None
        assert spot is not None
        assert futures.trades != spot.trades
        assert futures.open * 10**6 != spot.open


def test_a_rate_is_shared_as_events_are_at_worst() -> None:
    """Three quarters are those of USD-M."""
    rates = shared_rates(63_690, [USDM, COINM, SPOT])
    assert rates == pytest.approx({"usdm": 47_340, "coinm": 3_600, "spot": 12_750})
    assert shared_rates(500, [SPOT]) == {"spot": 500}
    assert shared_rates(0, [USDM, SPOT]) == {"usdm": 0, "spot": 0}
    assert shared_rates(MAX_RATE, [USDM, SPOT]) == {"usdm": MAX_RATE, "spot": MAX_RATE}
    assert shared_rates(None, [USDM]) == {"usdm": None}


async def test_an_unknown_venue_is_refused() -> None:
    """The message names those there are."""
    with pytest.raises(ConfigError, match="no venue 'options'; there are usdm, coinm, spot"):
        async with running("options"):
            pass
