"""What axe-core finds in the page: nothing that keeps anybody from using it."""

from __future__ import annotations

from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, ViewportSize, expect

from tests.dashboard.looks import NARROW, WIDE
from tests.dashboard.watched import Visit
from tests.dashboard.world import World

pytestmark = [pytest.mark.browser, pytest.mark.slow]

CANDLE = "2026-02-01T11:56:00.000Z"
THEMES: tuple[Literal["light", "dark"], ...] = "light", "dark"
axe = Axe()


def test_a_page_in_use_keeps_nobody_out(visit: Visit) -> None:
    """With a story told and a bill shown."""
    page = visit(f"/?symbol=BTCUSDT&interval=1m&candle={CANDLE}").page
    expect(page.get_by_role("region", name="Why")).to_contain_text("has its final row")
    page.get_by_label("Symbols or patterns").fill("XRPUSDT")
    page.get_by_role("button", name="What would adding cost?").click()
    expect(page.get_by_role("button", name="Add now")).to_be_visible()
    assert _serious(page, NARROW) == []
    assert _serious(page, WIDE) == []


@pytest.mark.parametrize("world", [{"token": "commands-of-the-owner"}], indirect=True)
def test_the_login_keeps_out_nobody_but_strangers(visit: Visit) -> None:
    """A wrong token is told, too."""
    window = visit()
    window.claim("401")
    login = window.page.get_by_role("dialog", name="Token")
    login.get_by_label("Token").fill("guessed")
    login.get_by_role("button", name="Log in").click()
    expect(login.get_by_role("alert")).to_have_text("That token is wrong.")
    assert _serious(window.page, NARROW) == []


def test_a_page_without_its_agent_can_be_read(visit: Visit, world: World) -> None:
    """Its colours fade, its words do not."""
    window = visit()
    expect(window.page.get_by_text("Last closed candle")).to_be_visible()
    window.claim("ERR_CONNECTION_REFUSED")
    world.lose()
    expect(window.page.get_by_role("banner").get_by_role("alert")).to_be_visible()
    assert _serious(window.page, WIDE) == []


def _serious(page: Page, size: ViewportSize) -> list[str]:
    """What is serious or critical in either theme, each with the first element that has it."""
    page.set_viewport_size(size)
    found = []
    for theme in THEMES:
        page.emulate_media(color_scheme=theme)
        answer = axe.run(page, options={"resultTypes": ["violations"]}).response
        found += [
            f"{theme}: {each['id']}: {each['help']}: {each['nodes'][0]['html'][:200]}"
            f" {each['nodes'][0].get('failureSummary', '')}"
            for each in answer["violations"]
            if each["impact"] in {"serious", "critical"}
        ]
    return found
