"""The page while its agent is away."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.dashboard.watched import Visit
from tests.dashboard.world import World

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_an_agent_that_is_lost_is_found_again(visit: Visit, world: World) -> None:
    """The page says since when, keeps what it knew, and goes on with the next agent."""
    window = visit("/?symbol=BTCUSDT&interval=1s")
    page = window.page
    closed = page.get_by_text("Last closed candle")
    expect(closed).to_be_visible()
    window.claim("ERR_CONNECTION_REFUSED")
    world.lose()
    alert = page.get_by_role("banner").get_by_role("alert")
    expect(alert).to_contain_text("The agent has not answered since")
    expect(closed).to_be_visible()
    before = closed.inner_text()
    world.find()
    expect(alert).to_be_hidden()
    expect(closed).not_to_have_text(before)
