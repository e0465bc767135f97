"""The coverage on the dashboard: series by day, read and opened by keyboard and by pointer."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.dashboard.watched import Visit
from tests.dashboard.world import World

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_a_day_is_found_and_opened_by_keyboard(visit: Visit, world: World) -> None:
    """Arrow keys say each cell, space opens a symbol, Enter chooses and lists the day's ranges."""
    page = visit().page
    coverage = page.get_by_role("region", name="Coverage")
    grid = coverage.get_by_role("grid", name="Coverage by series and day")
    expect(grid).to_have_attribute("aria-rowcount", "3")
    grid.focus()
    grid.press("Control+Home")
    expect(coverage.get_by_role("gridcell")).to_have_text("BTCUSDT, 2026-01-03: not recorded")
    grid.press("End")
    grid.press("Space")
    expect(grid).to_have_attribute("aria-rowcount", "6")
    grid.press("ArrowDown")
    cell = coverage.get_by_role("gridcell", name="BTCUSDT 1s, 2026-02-01")
    expect(cell).to_be_attached()
    assert grid.get_attribute("aria-activedescendant") == cell.get_attribute("id")
    grid.press("Enter")
    expect(page).to_have_url(f"{world.origin}/?symbol=BTCUSDT&interval=1s")
    expect(coverage.get_by_role("heading", name="BTCUSDT 1s on 2026-02-01")).to_be_visible()


def test_a_filter_and_a_range_are_part_of_the_link(visit: Visit, world: World) -> None:
    """What was typed and chosen is in the address, and a visitor of that address sees it."""
    page = visit().page
    coverage = page.get_by_role("region", name="Coverage")
    coverage.get_by_label("Filter").fill("eth* 1s")
    coverage.get_by_label("Range").select_option("7 days")
    grid = coverage.get_by_role("grid")
    expect(grid).to_have_attribute("aria-colcount", "8")
    expect(grid).to_have_attribute("aria-rowcount", "1")
    expect(page).to_have_url(f"{world.origin}/?days=7&filter=eth*+1s")
    linked = visit("/?days=7&filter=eth*+1s").page.get_by_role("grid")
    expect(linked).to_have_attribute("aria-colcount", "8")
    expect(linked).to_have_attribute("aria-rowcount", "1")
