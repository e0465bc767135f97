"""Order books and tickers agree with the candles of their moment."""

from __future__ import annotations

import json
from typing import Any

import pytest

from klineagent.core.interval import DAY_MS, MINUTE_MS
from klineagent.twin.market.aggregation import Aggregator
from klineagent.twin.market.listings import odd_idle_listings
from klineagent.twin.market.random import RandomMarket
from klineagent.twin.rest.api import RestAnswer, RestApi, WeightMeter
from klineagent.twin.venues import COINM, SPOT, USDM, VenueRules

START = 1_769_904_000_000
NOW = START + 90 * MINUTE_MS + 30_000
SYMBOL = {"usdm": "BTCUSDT", "spot": "BTCUSDT", "coinm": "BTCUSD_PERP"}
VENUES = pytest.mark.parametrize("venue", [USDM, COINM, SPOT], ids=lambda each: each.name)


def api_of(venue: VenueRules) -> RestApi:
    """The REST API of a made-up market of two days."""
    market = RandomMarket(
        symbols=3, seed=3, start_ms=START, venue_name=venue.name, history_ms=2 * DAY_MS
    )
    return RestApi(
        venue=venue,
        aggregator=Aggregator(market),
        listings=market.listings + odd_idle_listings(venue.name, START),
        meter=WeightMeter(venue.weight_per_minute),
    )


def get(api: RestApi, endpoint: str, **query: object) -> RestAnswer:
    """Request an endpoint of the venue, of its first symbol unless another is named."""
    query = {"symbol": SYMBOL[api.venue.name], **query}
    texts = {name: str(value) for name, value in query.items() if value is not None}
    return api.answer("GET", api.venue.rest_prefix + endpoint, texts, NOW)


def content(answer: RestAnswer) -> Any:
    """The content of an answer, of COIN-M's lists of one that one."""
    assert answer.status == 200
    found = json.loads(answer.body)
    return found[0] if isinstance(found, list) and len(found) == 1 else found


def last_close(api: RestApi) -> str:
    """The price of the forming candle."""
    (row,) = json.loads(get(api, "/klines", interval="1m", limit=1).body)
    return str(row[4])


@VENUES
def test_the_last_price_lies_between_the_best_two(venue: VenueRules) -> None:
    """Bids fall and asks rise from there, in all endpoints alike."""
    api = api_of(venue)
    book, last = content(get(api, "/depth", limit=5)), last_close(api)
    assert book["bids"][0][0] == last
    prices = [float(price) for price, _ in (*reversed(book["bids"]), *book["asks"])]
    assert len(prices) == 10
    assert prices == sorted(set(prices))
    assert all(float(quantity) > 0 for _, quantity in book["bids"] + book["asks"])
    best = content(get(api, "/ticker/bookTicker"))
    assert [best["bidPrice"], best["bidQty"]] == book["bids"][0]
    assert [best["askPrice"], best["askQty"]] == book["asks"][0]
    assert content(get(api, "/ticker/price"))["price"] == last


@VENUES
def test_a_day_is_that_of_its_hours(venue: VenueRules) -> None:
    """Sums and extremes are those of 24 candles of an hour, up to now."""
    api = api_of(venue)
    day = content(get(api, "/ticker/24hr"))
    hours = json.loads(get(api, "/klines", interval="1h", limit=24).body)
    assert day["openTime"] == hours[0][0]
    assert day["openPrice"] == hours[0][1]
    assert day["lastPrice"] == hours[-1][4] == last_close(api)
    assert float(day["highPrice"]) == max(float(row[2]) for row in hours)
    assert float(day["volume"]) == pytest.approx(sum(float(row[5]) for row in hours))
    assert day["count"] == sum(row[8] for row in hours)
    change = float(day["lastPrice"]) - float(day["openPrice"])
    assert float(day["priceChange"]) == pytest.approx(change, abs=1e-6)


@VENUES
def test_without_a_symbol_all_that_trade_are_told(venue: VenueRules) -> None:
    """Not those that are listed and idle."""
    api = api_of(venue)
    for endpoint in venue.ticker_weights:
        all_of_them = json.loads(get(api, endpoint, symbol=None).body)
        told = {ticker["symbol"] for ticker in all_of_them}
        assert SYMBOL[venue.name] in told
        assert not any(symbol.startswith("OMG") for symbol in told)


def test_weights_are_the_venues() -> None:
    """An order book's grows with its limit; a ticker of all symbols is dear."""
    api = api_of(USDM)
    spent = [
        int(dict(answer.headers)["X-MBX-USED-WEIGHT-1M"])
        for answer in (
            get(api, "/depth", limit=5),
            get(api, "/depth", limit=1_000),
            get(api, "/ticker/24hr"),
            get(api, "/ticker/24hr", symbol=None),
        )
    ]
    assert spent == [2, 22, 23, 63]


def test_limits_of_an_order_book_are_the_venues() -> None:
    """Futures have a few, spot cuts."""
    refused = get(api_of(USDM), "/depth", limit=7)
    assert refused.status == 400
    assert json.loads(refused.body) == {"code": -4021, "msg": "7 is not valid depth limit"}
    assert len(content(get(api_of(SPOT), "/depth", limit=7))["asks"]) == 7
    assert len(content(get(api_of(SPOT), "/depth", limit=9_000))["asks"]) == 5_000


def test_a_symbol_that_is_not_listed_is_refused() -> None:
    """As for klines."""
    for endpoint in ("/depth", "/ticker/24hr"):
        answer = get(api_of(USDM), endpoint, symbol="NONE")
        assert json.loads(answer.body)["code"] == -1121
    assert json.loads(get(api_of(USDM), "/depth", symbol=None).body)["code"] == -1102
