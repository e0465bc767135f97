"""Who may look, and who may change."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.dashboard.watched import Visit

TOKENS = {"token": "commands-of-the-owner", "read_token": "eyes-of-the-readers"}

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.parametrize("world", [TOKENS], indirect=True),
]


def test_a_token_opens_the_page_and_a_wrong_one_does_not(visit: Visit) -> None:
    """It stays in the tab: a reload asks for none, a new tab does, and so does who logged out."""
    window = visit()
    window.claim("401")
    page = window.page
    login = page.get_by_role("dialog", name="Token")
    expect(page.get_by_role("status").first).to_have_text("asks for a token")
    login.get_by_label("Token").fill("guessed")
    login.get_by_role("button", name="Log in").click()
    expect(login.get_by_role("alert")).to_have_text("That token is wrong.")
    login.get_by_label("Token").fill(f"{TOKENS['token']}\N{EM DASH}")
    login.get_by_label("Token").press("Enter")
    expect(login.get_by_role("alert")).to_contain_text("A token has plain letters")
    login.get_by_label("Token").fill(TOKENS["token"])
    login.get_by_label("Token").press("Enter")
    expect(login).to_be_hidden()
    expect(page.get_by_role("region", name="Add and remove")).to_be_visible()
    page.reload()
    expect(page.get_by_role("region", name="Add and remove")).to_be_visible()
    expect(login).to_be_hidden()
    curl = page.get_by_role("region", name="Coverage").locator("details.curl")
    curl.get_by_text("curl").first.click()
    expect(curl).to_contain_text("$KLINEAGENT_TOKEN")
    assert TOKENS["token"] not in page.content()
    page.get_by_role("button", name="Log out").click()
    expect(login).to_be_visible()


def test_with_a_read_token_nothing_can_be_changed(visit: Visit) -> None:
    """All is shown, and there is no button that the agent would refuse."""
    window = visit()
    window.claim("401")
    page = window.page
    page.get_by_role("dialog").get_by_label("Token").fill(TOKENS["read_token"])
    page.get_by_role("dialog").get_by_label("Token").press("Enter")
    expect(page.get_by_role("banner")).to_contain_text("reading only")
    expect(page.get_by_text("Last closed candle")).to_be_visible()
    expect(page.get_by_role("region", name="Add and remove")).to_be_hidden()
    wanted = page.get_by_role("region", name="Recorded as wanted")
    expect(wanted.get_by_role("rowheader", name="BTCUSDT")).to_be_visible()
    expect(wanted.get_by_label("Symbols or patterns")).to_be_hidden()
    expect(page.get_by_role("button", name="Remove")).to_have_count(0)
    wanted.get_by_text("curl").first.click()
    expect(wanted).to_contain_text("$KLINEAGENT_READ_TOKEN")
