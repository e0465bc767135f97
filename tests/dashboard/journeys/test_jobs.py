"""Importing the past from the page, and stopping it."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.dashboard.looks import WIDE
from tests.dashboard.watched import Visit
from tests.dashboard.world import World

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_the_past_of_the_series_in_view_is_imported(visit: Visit, world: World) -> None:
    """The form proposes it; its row says what was done."""
    page = visit("/?symbol=SOLUSDT&interval=1m").page
    jobs = page.get_by_role("region", name="Jobs")
    expect(jobs.get_by_label("Symbol or pattern")).to_have_value("SOLUSDT")
    jobs.get_by_label("at", exact=True).fill("1h")
    jobs.get_by_label("from", exact=True).fill("2026-01-30")
    jobs.get_by_role("button", name="Import").click()
    row = jobs.get_by_role("row", name="SOLUSDT 1h from 2026-01-30")
    expect(row).to_contain_text("done")
    expect(row).to_contain_text("2 of 2 files")
    expect(row.get_by_role("button")).to_have_count(0)
    stored = {each.source for each in world.store.klines.values() if each.interval == "1h"}
    assert stored == {"archive", "rest"}


def test_a_job_is_cancelled_with_two_clicks(visit: Visit, world: World) -> None:
    """One that waits says why; it can be paused and resumed until then."""
    page = visit().page
    page.set_viewport_size(WIDE)
    # What the chart asks for later is in memory.
    expect(page.get_by_text("Last closed candle")).to_be_visible()
    jobs = page.get_by_role("region", name="Jobs")
    with world.fault(world.store.offline()):
        jobs.get_by_label("Symbol or pattern").fill("BTC*")
        jobs.get_by_role("button", name="Import").click()
        row = jobs.get_by_role("row", name="BTC* 1m")
        expect(row).to_contain_text("waiting: ")
        row.get_by_role("button", name="Pause").click()
        expect(row).to_contain_text("paused")
        assert not [
            each
            for each in Axe().run(page, context="#jobs").response["violations"]
            if each["impact"] in {"serious", "critical"}
        ]
        row.get_by_role("button", name="Resume").click()
        row.get_by_role("button", name="Cancel …").click()
        row.get_by_role("button", name="Cancel now").click()
        expect(row).to_contain_text("cancelled")
