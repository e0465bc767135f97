"""The exchangeInfo answer in each venue's own format. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from klineagent.twin.market.candle import to_text
from klineagent.twin.market.market import Listing
from klineagent.twin.venues import VenueRules

_PRECISION = 8
_FUTURES_ORDERS = ["LIMIT", "MARKET", "STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET"]
_SPOT_ORDERS = ["LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS_LIMIT", "TAKE_PROFIT_LIMIT"]


def exchange_info(
    venue: VenueRules, listings: Iterable[Listing], server_time_ms: int
) -> dict[str, Any]:
    """Make the answer's object; `server_time_ms` may be stale, as the real one is."""
    symbol = {"usdm": _usdm_symbol, "coinm": _coinm_symbol, "spot": _spot_symbol}[venue.name]
    info: dict[str, Any] = {
        "timezone": "UTC",
        "serverTime": server_time_ms,
        "rateLimits": [
            _rate_limit("REQUEST_WEIGHT", "MINUTE", 1, venue.weight_per_minute),
            _rate_limit("ORDERS", "MINUTE", 1, 1_200),
            _rate_limit("ORDERS", "SECOND", 10, 300),
        ],
        "exchangeFilters": [],
        "symbols": [symbol(listing) for listing in listings],
    }
    if venue.name == "usdm":
        info["futuresType"] = "U_MARGINED"
        info["assets"] = [{"asset": "USDT", "marginAvailable": True, "autoAssetExchange": "-10000"}]
    return info


def _rate_limit(kind: str, interval: str, number: int, limit: int) -> dict[str, Any]:
    return {"rateLimitType": kind, "interval": interval, "intervalNum": number, "limit": limit}


def _contract(listing: Listing) -> dict[str, Any]:
    """The fields of a contract that both kinds of futures share."""
    return {
        "symbol": listing.symbol,
        "pair": listing.pair,
        "contractType": listing.contract_type,
        "deliveryDate": listing.delivery_ms,
        "onboardDate": listing.onboard_ms,
        "maintMarginPercent": "2.5000",
        "requiredMarginPercent": "5.0000",
        "baseAsset": listing.base,
        "quoteAsset": listing.quote,
        "pricePrecision": listing.price_places,
        "quantityPrecision": listing.quantity_places,
        "baseAssetPrecision": _PRECISION,
        "quotePrecision": _PRECISION,
        "underlyingType": listing.underlying_type,
        "underlyingSubType": [],
        "triggerProtect": "0.0500",
        "liquidationFee": "0.012500",
        "marketTakeBound": "0.05",
        "filters": [
            *_step_filters(listing),
            {"filterType": "MAX_NUM_ORDERS", "limit": 200},
            {"filterType": "MAX_NUM_ALGO_ORDERS", "limit": 10},
            {
                "filterType": "PERCENT_PRICE",
                "multiplierUp": "1.0500",
                "multiplierDown": "0.9500",
                "multiplierDecimal": "4",
            },
        ],
        "orderTypes": _FUTURES_ORDERS,
        "timeInForce": ["GTC", "IOC", "FOK", "GTX", "GTD"],
    }


def _usdm_symbol(listing: Listing) -> dict[str, Any]:
    contract = _contract(listing) | {
        "status": listing.status,
        "marginAsset": listing.quote,
        "settlePlan": 0,
    }
    contract["filters"].append({"filterType": "MIN_NOTIONAL", "notional": "5"})
    return contract


def _coinm_symbol(listing: Listing) -> dict[str, Any]:
    return _contract(listing) | {
        "contractStatus": listing.status,
        "contractSize": listing.contract_size,
        "marginAsset": listing.base,
        "equalQtyPrecision": 4,
    }


def _spot_symbol(listing: Listing) -> dict[str, Any]:
    return {
        "symbol": listing.symbol,
        "status": listing.status,
        "baseAsset": listing.base,
        "baseAssetPrecision": _PRECISION,
        "quoteAsset": listing.quote,
        "quotePrecision": _PRECISION,
        "quoteAssetPrecision": _PRECISION,
        "orderTypes": _SPOT_ORDERS,
        "icebergAllowed": True,
        "ocoAllowed": True,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": _step_filters(listing),
        "permissions": [],
        "permissionSets": [["SPOT"]],
    }


def _step_filters(listing: Listing) -> list[dict[str, Any]]:
    price_step = to_text(1, listing.price_places)
    quantity_step = to_text(1, listing.quantity_places)
    lot = {"minQty": quantity_step, "maxQty": "10000000", "stepSize": quantity_step}
    return [
        {
            "filterType": "PRICE_FILTER",
            "minPrice": price_step,
            "maxPrice": "4529764",
            "tickSize": price_step,
        },
        {"filterType": "LOT_SIZE", **lot},
        {"filterType": "MARKET_LOT_SIZE", **lot},
    ]
