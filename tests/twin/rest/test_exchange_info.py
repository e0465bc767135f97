from __future__ import annotations

from typing import Any

import pytest

from klineagent.twin.market.listings import odd_idle_listings
from klineagent.twin.market.quarterlies import as_listed
from klineagent.twin.market.random import RandomMarket
from klineagent.twin.rest.exchange_info import exchange_info
from klineagent.twin.venues import COINM, SPOT, USDM, VenueRules

START = 1_769_904_000_000


def symbols_of(venue: VenueRules) -> dict[str, dict[str, Any]]:
    """The symbol objects of a made-up market, by symbol."""
    market = RandomMarket(symbols=2, seed=3, start_ms=START, venue_name=venue.name)
    shown = [as_listed(each, START) for each in market.listings]
    listings = [*filter(None, shown), *odd_idle_listings(venue.name, START)]
    return {entry["symbol"]: entry for entry in exchange_info(venue, listings, START)["symbols"]}


def test_usdm_has_odd_listings() -> None:
    """Two quarterlies, a stock, a Chinese symbol, one not listed yet, a settled one."""
    found = symbols_of(USDM)
    kinds = {symbol: (entry["contractType"], entry["status"]) for symbol, entry in found.items()}
    assert kinds == {
        "BTCUSDT": ("PERPETUAL", "TRADING"),
        "ETHUSDT": ("PERPETUAL", "TRADING"),
        "BTCUSDT_260327": ("CURRENT_QUARTER", "TRADING"),
        "BTCUSDT_260626": ("NEXT_QUARTER", "TRADING"),
        "TSLAUSDT": ("TRADIFI_PERPETUAL", "TRADING"),
        "币安人生USDT": ("PERPETUAL", "TRADING"),
        "SOONUSDT": ("PERPETUAL", "PENDING_TRADING"),
        "OMGUSDT": ("PERPETUAL", "SETTLING"),
    }
    assert found["SOONUSDT"]["onboardDate"] > START > found["OMGUSDT"]["deliveryDate"]
    assert found["BTCUSDT"]["deliveryDate"] == 4_133_404_800_000
    assert found["BTCUSDT"]["filters"][0]["tickSize"] == "0.01"


def test_coinm_has_its_own_fields() -> None:
    """ContractStatus in place of status, and a contract size."""
    btc = symbols_of(COINM)["BTCUSD_PERP"]
    assert "status" not in btc
    assert (btc["contractStatus"], btc["contractSize"]) == ("TRADING", 100)
    assert (btc["marginAsset"], btc["quoteAsset"]) == ("BTC", "USD")


def test_spot_has_no_contracts() -> None:
    """Neither type nor delivery."""
    found = symbols_of(SPOT)
    assert found["BTCUSDT"]["status"] == "TRADING"
    assert found["OMGUSDT"]["status"] == "BREAK"
    assert not {"contractType", "deliveryDate", "pair"} & found["BTCUSDT"].keys()


@pytest.mark.parametrize("venue", [USDM, COINM, SPOT])
def test_limits_are_listed(venue: VenueRules) -> None:
    """The venue's request weight is the first of its limits."""
    limit = exchange_info(venue, (), START)["rateLimits"][0]
    assert (limit["rateLimitType"], limit["limit"]) == ("REQUEST_WEIGHT", venue.weight_per_minute)
