"""Candles on the dashboard: one series, live."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.dashboard.watched import Visit
from tests.dashboard.world import World

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_a_chosen_series_is_seen_closing_live(visit: Visit, world: World) -> None:
    """The symbol is typed, the interval clicked; each close is told as it comes."""
    page = visit().page
    candles = page.get_by_role("region", name="Candles", exact=True)
    candles.get_by_label("Symbol").fill("ETHUSDT")
    candles.get_by_label("Symbol").press("Enter")
    candles.get_by_role("button", name="1s", exact=True).click()
    closed = candles.get_by_text("Last closed candle")
    expect(closed).to_be_visible()
    before = closed.inner_text()
    expect(closed).not_to_have_text(before)
    expect(page).to_have_url(f"{world.origin}/?symbol=ETHUSDT&interval=1s")
