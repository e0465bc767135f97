"""The page without a mouse."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.dashboard.watched import Visit
from tests.dashboard.world import World

pytestmark = [pytest.mark.browser, pytest.mark.slow]

MOST_STOPS = 150
# What has the focus, as far as a reader of the screen is concerned, and whether that is seen.
_FOCUS = """() => {
  const each = document.activeElement;
  if (each === document.body) return null;
  const { outlineStyle, outlineWidth } = getComputedStyle(each);
  const { width, height } = each.getBoundingClientRect();
  const words = each.ariaLabel || each.labels?.[0]?.textContent || each.textContent || "";
  return {
    name: `${each.tagName.toLowerCase()} ${words.trim().slice(0, 40)}`,
    isSeen: outlineStyle !== "none" && parseFloat(outlineWidth) >= 2 && width > 0 && height > 0,
  };
}"""


def test_every_control_is_reached_by_tab_and_seen_to_have_the_focus(visit: Visit) -> None:
    """From the first link to the last and out again; no control keeps the focus."""
    page = visit().page
    expect(page.get_by_text("Last closed candle")).to_be_visible()
    stops = list(_stops(page))
    names = [stop["name"] for stop in stops]
    assert names[0] == "a Skip to the panels"
    for control in ("select", "input Symbol", "button What would adding cost?", "a The API"):
        assert any(name.startswith(control) for name in names), (control, names)
    assert [stop["name"] for stop in stops if not stop["isSeen"]] == []


def test_the_interval_that_is_pressed_keeps_the_keyboard(visit: Visit) -> None:
    """So the next one is a key away."""
    candles = visit().page.get_by_role("region", name="Candles")
    minutes = candles.get_by_role("button", name="5m", exact=True)
    minutes.focus()
    minutes.press("Enter")
    expect(minutes).to_have_attribute("aria-pressed", "true")
    expect(minutes).to_be_focused()


def test_a_symbol_is_added_by_keyboard_alone(visit: Visit, world: World) -> None:
    """Enter asks for the bill, which takes the focus; Enter carries it out."""
    page = visit("/?panel=change").page
    page.get_by_label("Symbols or patterns").focus()
    page.keyboard.type("XRPUSDT")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Add now")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Added: ")).to_be_focused()
    assert "XRPUSDT" in world.recorded()


def _stops(page: Page) -> list[dict[str, Any]]:
    stops: list[dict[str, Any]] = []
    for _ in range(MOST_STOPS):
        page.keyboard.press("Tab")
        stop = page.evaluate(_FOCUS)
        if stop is None:
            return stops
        stops.append(stop)
    pytest.fail(f"Tab does not leave the page: {stops[-3:]}")
