"""A view is an address: it can be gone back to, copied and sent."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.dashboard.watched import Visit
from tests.dashboard.world import World

pytestmark = [pytest.mark.browser, pytest.mark.slow]

FOUR_PAST = "2026-02-01T11:56:00.000Z"


def test_a_copied_address_shows_the_same(visit: Visit, world: World) -> None:
    """Series, candle, its story, filter and days are all in it."""
    view = f"?symbol=ETHUSDT&interval=1m&candle={FOUR_PAST}&days=7&filter=ETH&panel=story"
    page = visit(f"/{view}").page
    expect(page.get_by_label("Symbol", exact=True)).to_have_value("ETHUSDT")
    expect(page.get_by_role("button", name="1m", exact=True)).to_have_attribute(
        "aria-pressed", "true"
    )
    _tells(page, "ETHUSDT 1m, 2026-02-01 11:56")
    coverage = page.get_by_role("region", name="Coverage")
    expect(coverage.get_by_label("Filter")).to_have_value("ETH")
    expect(coverage.get_by_label("Range")).to_have_value("7")
    expect(page.get_by_role("heading", name="Why")).to_be_focused()


def test_back_and_forward_go_from_view_to_view(visit: Visit) -> None:
    """Each candle that was chosen is one step."""
    page = visit(f"/?symbol=BTCUSDT&interval=1m&candle={FOUR_PAST}").page
    _tells(page, "BTCUSDT 1m, 2026-02-01 11:56")
    page.get_by_role("button", name="Next candle").click()
    _tells(page, "BTCUSDT 1m, 2026-02-01 11:57")
    page.go_back()
    _tells(page, "BTCUSDT 1m, 2026-02-01 11:56")
    page.go_forward()
    _tells(page, "BTCUSDT 1m, 2026-02-01 11:57")


def test_a_moment_within_a_candle_is_that_candle(visit: Visit, world: World) -> None:
    """And what is not recorded is added with a command for this agent."""
    page = visit("/?symbol=BTCUSDT&interval=1m&candle=2026-02-01T11:56:30Z").page
    _tells(page, "BTCUSDT 1m, 2026-02-01 11:56")
    candles = page.get_by_role("region", name="Candles", exact=True)
    expect(candles).to_contain_text("2026-02-01 11:56 UTC · open")
    page.get_by_label("Symbol", exact=True).fill("XRPUSDT")
    page.get_by_label("Symbol", exact=True).press("Enter")
    expect(candles).to_contain_text(f"add XRPUSDT --intervals 1m --agent {world.origin}")


def _tells(page: Page, candle: str) -> None:
    story = page.get_by_role("region", name="Why")
    expect(story.get_by_role("heading", level=3)).to_contain_text(candle)
    expect(story).to_contain_text("has its final row")
