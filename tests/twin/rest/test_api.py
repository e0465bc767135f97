from __future__ import annotations

import json
from typing import Any

import pytest

from klineagent.core.interval import DAY_MS, HOUR_MS, MINUTE_MS, Interval
from klineagent.twin.market.aggregation import Aggregator
from klineagent.twin.market.listings import odd_idle_listings
from klineagent.twin.market.random import RandomMarket
from klineagent.twin.rest.api import RestAnswer, RestApi, WeightMeter
from klineagent.twin.venues import COINM, SPOT, USDM, VenueRules

START = 1_769_904_000_000
NOW = START + 90 * MINUTE_MS + 30_000


def api_of(venue: VenueRules = USDM, history_ms: int = DAY_MS) -> RestApi:
    """The REST API of a made-up market."""
    market = RandomMarket(
        symbols=3, seed=3, start_ms=START, venue_name=venue.name, history_ms=history_ms
    )
    return RestApi(
        venue=venue,
        aggregator=Aggregator(market),
        listings=market.listings + odd_idle_listings(venue.name, START),
        meter=WeightMeter(venue.weight_per_minute),
    )


def get(api: RestApi, endpoint: str, now_ms: int = NOW, **query: Any) -> RestAnswer:
    """Request an endpoint of the venue."""
    return api.answer(
        "GET",
        api.venue.rest_prefix + endpoint,
        {name: str(value) for name, value in query.items()},
        now_ms,
    )


def rows(api: RestApi, now_ms: int = NOW, **query: object) -> list[list[Any]]:
    """The rows of a klines answer."""
    symbol = "BTCUSD_PERP" if api.venue is COINM else "BTCUSDT"
    answer = get(api, "/klines", now_ms, **{"symbol": symbol, "interval": "1m", **query})
    assert answer.status == 200
    decoded = json.loads(answer.body)
    assert isinstance(decoded, list)
    return decoded


def opens(found: list[list[Any]]) -> list[int]:
    """Open times of rows, in minutes since the start."""
    return [(row[0] - START) // MINUTE_MS for row in found]


def weight_of(answer: RestAnswer) -> int:
    """The used weight in the answer's header."""
    return int(dict(answer.headers)["X-MBX-USED-WEIGHT-1M"])


def test_the_newest_rows_come_without_times() -> None:
    """The last one is the forming candle, recognizable only by its close time."""
    found = rows(api_of(), limit=3)
    assert opens(found) == [88, 89, 90]
    assert [len(row) for row in found] == [12, 12, 12]
    assert found[-1][6] > NOW > found[-2][6]


def test_the_forming_row_grows() -> None:
    """The same candle has more trades later in its minute."""
    api = api_of()
    young, old = (rows(api, now_ms=NOW + late, limit=1)[0] for late in (0, 20_000))
    assert young[0] == old[0]
    assert young[8] < old[8]


def test_500_rows_come_by_default() -> None:
    """The default limit."""
    assert len(rows(api_of())) == 500


@pytest.mark.parametrize("venue", [USDM, SPOT])
def test_the_oldest_rows_come_with_a_start_time(venue: VenueRules) -> None:
    """From the first open time not before it, ascending, with or without an end."""
    api = api_of(venue)
    start = START + 10 * MINUTE_MS
    assert opens(rows(api, startTime=start, limit=3)) == [10, 11, 12]
    assert opens(rows(api, startTime=start + 1, limit=2)) == [11, 12]
    end = START + 12 * MINUTE_MS
    assert opens(rows(api, startTime=start, endTime=end)) == [10, 11, 12]
    assert opens(rows(api, startTime=start, endTime=end, limit=2)) == [10, 11]
    assert opens(rows(api, startTime=NOW + HOUR_MS)) == []


def test_the_newest_rows_come_with_an_end_time() -> None:
    """A candle that opens at the end time is included."""
    assert opens(rows(api_of(), endTime=START + 12 * MINUTE_MS, limit=3)) == [10, 11, 12]


def test_coinm_sends_the_newest_rows_of_a_window() -> None:
    """Even with a start time; and no window may be longer than 200 days."""
    api = api_of(COINM)
    start, end = START + 10 * MINUTE_MS, START + 20 * MINUTE_MS
    assert opens(rows(api, startTime=start, endTime=end, limit=2)) == [19, 20]
    assert opens(rows(api, startTime=start, limit=2)) == [89, 90]
    query: dict[str, Any] = {
        "symbol": "BTCUSD_PERP",
        "startTime": START - 201 * DAY_MS,
        "endTime": START,
    }
    refused = get(api, "/klines", interval="1d", **query)
    assert refused.status == 400


def test_spot_takes_times_in_microseconds() -> None:
    """They are recognized by their magnitude."""
    found = rows(api_of(SPOT), startTime=(START + 5 * MINUTE_MS) * 1_000, limit=1)
    assert opens(found) == [5]


def test_symbols_are_taken_in_lower_case() -> None:
    """Lower case of other alphabets is unknown."""
    assert rows(api_of(), symbol="btcusdt", limit=1)
    assert rows(api_of(), symbol="币安人生usdt", limit=1)


@pytest.mark.parametrize("interval", sorted(USDM.intervals, key=str))
def test_every_interval_of_the_venue_has_rows(interval: Interval) -> None:
    """The newest row is the open candle of its interval."""
    found = rows(api_of(), interval=interval.value, limit=2)
    assert found[-1][0] == interval.open_at(NOW)
    assert found[-1][6] == interval.close_of(found[-1][0])


def test_a_settled_symbol_has_no_rows_and_is_no_error() -> None:
    """It is still listed."""
    assert rows(api_of(), symbol="OMGUSDT") == []


@pytest.mark.parametrize(
    ("query", "code", "text"),
    [
        ({"symbol": "NOPE", "interval": "1m"}, -1121, "Invalid symbol."),
        ({"symbol": "BTCUSDT", "interval": "1s"}, -1120, "Invalid interval."),
        (
            {"symbol": "BTCUSDT", "interval": "1m", "limit": 1_501},
            -1130,
            "Data sent for parameter 'limit' is not valid.",
        ),
        (
            {"symbol": "BTCUSDT", "interval": "1m", "limit": 0},
            -1130,
            "Data sent for parameter 'limit' is not valid.",
        ),
        (
            {"interval": "1m"},
            -1102,
            "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed.",
        ),
        (
            {"symbol": "BTCUSDT", "interval": ""},
            -1102,
            "Mandatory parameter 'interval' was not sent, was empty/null, or malformed.",
        ),
        (
            {"symbol": "BTCUSDT", "interval": "1m", "startTime": "now"},
            -1102,
            "Mandatory parameter 'startTime' was not sent, was empty/null, or malformed.",
        ),
    ],
)
def test_refusals_have_the_exchanges_own_words(query: dict[str, Any], code: int, text: str) -> None:
    """Status 400, a code and its text."""
    answer = get(api_of(), "/klines", **query)
    assert answer.status == 400
    assert json.loads(answer.body) == {"code": code, "msg": text}


def test_a_refused_request_costs_its_weight() -> None:
    """limit=1501 cost 10 when it was measured."""
    refused = get(api_of(), "/klines", symbol="BTCUSDT", interval="1m", limit=1_501)
    assert weight_of(refused) == 10


def test_weights_add_up_in_the_header() -> None:
    """ping, time and exchangeInfo cost 1 each on USD-M; spot's exchangeInfo costs 20."""
    api = api_of()
    assert [weight_of(get(api, path)) for path in ("/ping", "/time", "/exchangeInfo")] == [1, 2, 3]
    assert weight_of(get(api_of(SPOT), "/exchangeInfo")) == 20


def test_too_much_weight_is_refused_and_then_banned() -> None:
    """429 with the time to wait, then 418 with the end of the ban."""
    api = api_of()
    answers = [get(api, "/exchangeInfo") for _ in range(2_400)]
    assert {answer.status for answer in answers} == {200}
    refused = get(api, "/ping")
    assert refused.status == 429
    assert dict(refused.headers)["Retry-After"] == "30"
    assert json.loads(refused.body)["code"] == -1003
    assert "Too many requests; current limit is 2400" in json.loads(refused.body)["msg"]
    statuses = [get(api, "/ping").status for _ in range(5)]
    assert statuses == [429] * 4 + [418]
    banned = get(api, "/ping", NOW + MINUTE_MS)
    assert banned.status == 418
    assert f"banned until {NOW + 2 * MINUTE_MS}" in json.loads(banned.body)["msg"]
    assert dict(banned.headers)["Retry-After"] == "60"
    assert get(api, "/ping", NOW + 2 * MINUTE_MS).status == 200


def test_time_is_the_exchanges_and_the_listing_is_stale() -> None:
    """ExchangeInfo's serverTime must not serve as a clock."""
    api = api_of()
    assert json.loads(get(api, "/time").body) == {"serverTime": NOW}
    assert json.loads(get(api, "/exchangeInfo").body)["serverTime"] < NOW - HOUR_MS
    assert json.loads(get(api, "/ping").body) == {}


@pytest.mark.parametrize("path", ["/fapi/v1/nothing", "/api/v3/klines", "/", "/fapi/v2/klines"])
def test_other_paths_are_not_found(path: str) -> None:
    """Other venues' paths, too."""
    assert api_of().answer("GET", path, {}, NOW).status == 404
    assert api_of().answer("POST", "/fapi/v1/klines", {}, NOW).status == 404


@pytest.mark.parametrize("venue", [USDM, COINM, SPOT], ids=lambda each: each.name)
def test_a_long_answer_is_computed_in_parts(venue: VenueRules) -> None:
    """Half a day each, up to two days ago; the answer is the same."""
    api, path = api_of(venue, 20 * DAY_MS), f"{venue.rest_prefix}/klines"
    symbol = "BTCUSD_PERP" if venue is COINM else "BTCUSDT"
    query: dict[str, Any] = {
        "symbol": symbol,
        "interval": "1d",
        "startTime": str(START - 20 * DAY_MS),
    }
    assert len(list(api.draw(path, query, NOW))) == 2 * 18 + 1
    assert rows(api, **query) == rows(api_of(venue, 20 * DAY_MS), **query)
    assert len(list(api.draw(path, {**query, "limit": "10"}, NOW))) in {2 * 8 + 1, 2 * 18 + 1}
    del query["startTime"]
    assert len(list(api.draw(path, query, NOW))) == 2 * 18 + 1


@pytest.mark.parametrize(
    "query",
    [
        {"symbol": "OMGUSDT", "interval": "1d"},
        {"symbol": "BTCUSDT", "interval": "1m"},
        {"symbol": "BTCUSDT", "interval": "2d"},
        {"symbol": "BTCUSDT", "interval": "1d", "limit": "0"},
        {},
    ],
)
def test_any_other_answer_has_no_parts(query: dict[str, str]) -> None:
    """Short ones, refusals, and symbols without candles."""
    api = api_of(history_ms=20 * DAY_MS)
    assert list(api.draw("/fapi/v1/klines", query, NOW)) == []
    assert list(api.draw("/fapi/v1/time", query, NOW)) == []
