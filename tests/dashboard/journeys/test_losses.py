"""Candles that are lost and found again, as a user sees it."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.dashboard.watched import Visit
from tests.dashboard.world import World

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_a_lost_candle_is_a_gap_until_it_is_fetched_and_its_story_is_told(
    visit: Visit, world: World
) -> None:
    """The exchange sends no closing events and answers no request; then it answers again."""
    page = visit("/?symbol=BTCUSDT&interval=1s").page
    chart = page.get_by_role("slider", name="Chosen candle")
    candles = page.get_by_role("region", name="Candles", exact=True)
    losses = page.get_by_role("region", name="Lost candles")
    expect(chart).to_have_attribute("data-missing", "0")
    faults = world.exchange.faults
    with world.fault(faults.failing_rest()):
        with world.fault(faults.losing_closings()):
            expect(candles).to_contain_text("1 missing")
        expect(losses.get_by_role("table", name="Candles lost")).to_contain_text("BTCUSDT 1s")
        row = losses.get_by_role("row", name="BTCUSDT 1s").first
        expect(row).to_contain_text("missing")
    expect(chart).to_have_attribute("data-missing", "0")
    expect(losses.get_by_role("row", name="BTCUSDT 1s").first).to_contain_text("fetched")
    losses.get_by_role("link", name="BTCUSDT 1s").first.click()
    story = page.get_by_role("region", name="Why")
    expect(story).to_contain_text("source rest")
    expect(story).to_contain_text("fetched at")
    expect(page.get_by_role("heading", name="Why")).to_be_focused()
