from __future__ import annotations

from datetime import UTC, datetime

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from klineagent.twin.interval import DAY_MS, HOUR_MS, MINUTE_MS
from klineagent.twin.market.listings import Coin, list_coin
from klineagent.twin.market.market import Listing
from klineagent.twin.market.quarterlies import as_listed, quarterlies
from klineagent.twin.market.random import RandomMarket

USUAL = list_coin(Coin("BTC", 83_000, 2, 3), "usdm", 0)


def at(text: str) -> int:
    """Milliseconds since the epoch of a time in UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000


def shown(listings: list[Listing], text: str) -> dict[str, tuple[str, str]]:
    """Contract type and status of each symbol that the list shows at a time."""
    seen = (as_listed(each, at(text)) for each in listings)
    return {each.symbol: (each.contract_type, each.status) for each in seen if each is not None}


def test_a_contract_ends_and_the_next_ones_move_up() -> None:
    """In the last minutes it still trades; a day before, its successor's successor is announced."""
    usual = evolve(USUAL, onboard_ms=at("2026-01-15"))
    listings = list(quarterlies(usual, at("2026-02-01")))
    assert [each.symbol for each in listings] == [
        "BTCUSDT_260327",
        "BTCUSDT_260626",
        "BTCUSDT_260925",
        "BTCUSDT_261225",
    ]
    current, following = ("CURRENT_QUARTER", "TRADING"), ("NEXT_QUARTER", "TRADING")
    assert shown(listings, "2026-02-01") == {
        "BTCUSDT_260327": current,
        "BTCUSDT_260626": following,
    }
    assert shown(listings, "2026-03-27T07:55") == {
        "BTCUSDT_260327": ("CURRENT_QUARTER", "PRE_DELIVERING"),
        "BTCUSDT_260626": following,
        "BTCUSDT_260925": ("NEXT_QUARTER", "PENDING_TRADING"),
    }
    assert shown(listings, "2026-03-27T08:00") == {
        "BTCUSDT_260327": ("CURRENT_QUARTER DELIVERING", "DELIVERING"),
        "BTCUSDT_260626": current,
        "BTCUSDT_260925": following,
    }
    assert shown(listings, "2026-03-27T09:00") == {
        "BTCUSDT_260626": current,
        "BTCUSDT_260925": following,
    }


def test_those_of_the_past_were_delivered() -> None:
    """Since the pair itself was listed, the first of them late in its life."""
    usual = evolve(USUAL, onboard_ms=at("2025-09-01"))
    listings = list(quarterlies(usual, at("2026-02-01")))
    assert [each.symbol for each in listings][:3] == [
        "BTCUSDT_250926",
        "BTCUSDT_251226",
        "BTCUSDT_260327",
    ]
    assert listings[0].onboard_ms == usual.onboard_ms
    assert len(listings) == 2 + 4


@given(st.integers(at("2000-01-01"), at("2100-01-01")))
def test_two_trade_at_any_time(now_ms: int) -> None:
    """Each ends at 08:00 UTC on a Friday, the last of a quarter."""
    listings = list(quarterlies(USUAL, now_ms))[-4:]
    trading = [each for each in listings if each.onboard_ms <= now_ms < each.delivery_ms]
    assert trading == listings[:2]
    for each, following in zip(listings[:2], listings[2:], strict=True):
        assert following.onboard_ms == each.delivery_ms
        end = datetime.fromtimestamp(each.delivery_ms / 1_000, UTC)
        assert (end.weekday(), end.hour, end.month % 3) == (4, 8, 0)
        assert datetime.fromtimestamp((each.delivery_ms + 7 * DAY_MS) / 1_000, UTC).month % 3 == 1


@pytest.mark.parametrize("venue", ["usdm", "coinm"])
def test_a_contract_has_candles_while_it_trades(venue: str) -> None:
    """From its listing to its delivery."""
    start_ms = at("2026-03-27T07:00")
    market = RandomMarket(symbols=1, seed=1, start_ms=start_ms, venue_name=venue)
    pair = "BTCUSDT" if venue == "usdm" else "BTCUSD"
    end_ms = start_ms + HOUR_MS
    assert market.minute(f"{pair}_260327", end_ms - MINUTE_MS) is not None
    assert market.minute(f"{pair}_260327", end_ms) is None
    assert market.minute(f"{pair}_260925", end_ms - MINUTE_MS) is None
    assert market.minute(f"{pair}_260925", end_ms) is not None
