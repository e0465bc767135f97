"""Adding and removing, always after the bill."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.dashboard.watched import Visit
from tests.dashboard.world import World

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_a_pattern_is_added_after_its_dry_run(visit: Visit, world: World) -> None:
    """The first click shows what it costs and changes nothing; the second one adds."""
    page = visit().page
    change = page.get_by_role("region", name="Add and remove")
    expect(change.get_by_role("rowheader", name="BTCUSDT")).to_be_visible()
    ticked = [
        box.get_attribute("value")
        for box in change.get_by_role("checkbox").all()
        if box.is_checked()
    ]
    assert ticked == ["1s", "1m", "5m"]
    change.get_by_label("Symbols or patterns").fill("BNB*, XRPUSDT")
    for box in change.get_by_role("checkbox").all():
        box.set_checked(box.get_attribute("value") == "1h")
    change.get_by_role("button", name="What would adding cost?").click()
    bill = change.get_by_role("group", name="Bill")
    expect(bill.get_by_role("heading")).to_have_text("Add: 2 streams")
    for fact in ("Connections", "Subscribed in", "History", "A day, all streams"):
        expect(bill).to_contain_text(fact)
    assert "XRPUSDT" not in world.recorded()
    bill.get_by_role("button", name="Add now").click()
    expect(bill.get_by_role("heading")).to_have_text("Added: 2 streams")
    wanted = change.get_by_role("table", name="Symbols and patterns that are wanted")
    expect(wanted.get_by_role("rowheader", name="BNB*")).to_be_visible()
    expect(wanted.get_by_role("rowheader", name="XRPUSDT")).to_be_visible()
    assert {"BNBUSDT", "XRPUSDT"} <= world.recorded()


def test_a_symbol_is_removed_with_two_clicks(visit: Visit, world: World) -> None:
    """One shows what would end, the other ends it."""
    page = visit().page
    change = page.get_by_role("region", name="Add and remove")
    change.get_by_role("button", name="Remove SOLUSDT").click()
    bill = change.get_by_role("group", name="Bill")
    expect(bill.get_by_role("heading")).to_have_text("Remove: 3 streams")
    assert "SOLUSDT" in world.recorded()
    bill.get_by_role("button", name="Remove now").click()
    expect(bill.get_by_role("heading")).to_have_text("Removed: 3 streams")
    expect(change.get_by_role("rowheader", name="SOLUSDT")).to_have_count(0)
    assert "SOLUSDT" not in world.recorded()


def test_a_form_that_is_edited_has_to_be_asked_again(visit: Visit) -> None:
    """A bill is for what was asked, and nothing else can be carried out with it."""
    page = visit().page
    change = page.get_by_role("region", name="Add and remove")
    change.get_by_label("Symbols or patterns").fill("XRPUSDT")
    change.get_by_role("button", name="What would adding cost?").click()
    now = change.get_by_role("button", name="Add now")
    expect(now).to_be_focused()
    change.get_by_label("Symbols or patterns").fill("XRPUSDT BNBUSDT")
    expect(now).to_be_hidden()
    change.get_by_label("Symbols or patterns").fill("*USDT")
    change.get_by_role("button", name="What would removing do?").click()
    bill = change.get_by_role("group", name="Bill")
    expect(bill).to_contain_text("A pattern is removed by its own text")
    expect(bill.get_by_text("Subscribed in")).to_be_hidden()
    expect(bill.get_by_role("button", name="Remove now")).to_be_hidden()
