"""What axe-core finds in the page: nothing that keeps anybody from using it."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, ViewportSize, expect

from tests.dashboard.looks import NARROW, WIDE
from tests.dashboard.watched import Visit
from tests.dashboard.world import World

pytestmark = [pytest.mark.browser, pytest.mark.slow]

CANDLE = "2026-02-01T11:56:00.000Z"
axe = Axe()


@pytest.mark.parametrize(("theme", "size"), [("light", WIDE), ("dark", NARROW)])
def test_a_page_in_use_keeps_nobody_out(visit: Visit, theme: str, size: ViewportSize) -> None:
    """With a story told, a bill shown, and a filtered coverage."""
    page = visit(
        f"/?symbol=BTCUSDT&interval=1m&candle={CANDLE}", color_scheme=theme, viewport=size
    ).page
    expect(page.get_by_role("region", name="Why")).to_contain_text("has its final row")
    page.get_by_label("Symbols or patterns").fill("XRPUSDT")
    page.get_by_role("button", name="What would adding cost?").click()
    expect(page.get_by_role("button", name="Add now")).to_be_visible()
    assert _serious(page) == []


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("world", [{"token": "commands-of-the-owner"}], indirect=True)
def test_the_login_keeps_out_nobody_but_strangers(visit: Visit, theme: str) -> None:
    """A wrong token is told, too."""
    window = visit(color_scheme=theme)
    window.claim("401")
    login = window.page.get_by_role("dialog", name="Token")
    login.get_by_label("Token").fill("guessed")
    login.get_by_role("button", name="Log in").click()
    expect(login.get_by_role("alert")).to_have_text("That token is wrong.")
    assert _serious(window.page) == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_page_without_its_agent_can_be_read(visit: Visit, world: World, theme: str) -> None:
    """Its colours fade, its words do not."""
    window = visit(color_scheme=theme)
    expect(window.page.get_by_text("Last closed candle")).to_be_visible()
    window.claim("ERR_CONNECTION_REFUSED")
    world.lose()
    expect(window.page.get_by_role("banner").get_by_role("alert")).to_be_visible()
    assert _serious(window.page) == []


def _serious(page: Page) -> list[str]:
    """What is serious or critical, each with the first element that has it."""
    found = axe.run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return [
        f"{each['impact']}: {each['id']}: {each['help']}: {each['nodes'][0]['html'][:200]}"
        f" {each['nodes'][0].get('failureSummary', '')}"
        for each in found
        if each["impact"] in {"serious", "critical"}
    ]
