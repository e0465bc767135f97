"""The chart of candles on the dashboard, with its library and without it."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, Route, expect

from klineagent.api.dashboard.files import charts_library
from tests.dashboard.watched import Visit
from tests.dashboard.world import World

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SERIES = "/?symbol=BTCUSDT&interval=1s"


@pytest.fixture(params=["library", "plain"])
def page(request: pytest.FixtureRequest, visit: Visit, world: World) -> Page:
    """The page of a series, where the charts library is installed and where it is not."""
    if request.param == "library" and charts_library() is None:
        pytest.skip("the charts library is not installed")
    page = visit(None).page
    if request.param == "plain":
        page.route(world.origin + SERIES, _without_library)
    page.goto(world.origin + SERIES)
    expect(page.get_by_role("slider")).to_have_attribute("data-chart", request.param)
    hint = page.get_by_text("pip install 'klineagent[dashboard]'")
    expect(hint).to_be_visible(visible=request.param == "plain")
    return page


def _without_library(route: Route) -> None:
    answer = route.fetch()
    body = re.sub('(<meta name="charts" content=")[^"]*', r"\1", answer.text())
    route.fulfill(response=answer, body=body)


def test_a_candle_is_chosen_by_keyboard_and_by_pointer(page: Page) -> None:
    """Left says a candle's values, Enter or a click tells its story; the address names it."""
    chart = page.get_by_role("slider", name="Chosen candle")
    story = page.get_by_role("region", name="Why")
    expect(page.get_by_text("Last closed candle")).to_be_visible()
    chart.press("ArrowLeft")
    chart.press("ArrowLeft")
    expect(chart).to_have_attribute("aria-valuetext", re.compile("open .* close .* source"))
    chart.press("Enter")
    expect(story.get_by_role("heading", name="BTCUSDT 1s, 2026-02-01 1")).to_be_visible()
    expect(story.get_by_role("heading", name="Why")).to_be_focused()
    told = page.url
    chart.click(position={"x": 200, "y": 100})
    expect(page).not_to_have_url(told)
    expect(story).to_contain_text("from source rest")
    page.get_by_role("button", name="Next candle").click()
    page.go_back()
    page.go_back()
    expect(page).to_have_url(told)


@pytest.mark.parametrize("world", [{"history": 1_200}], indirect=True)
def test_the_chart_scrolls_back_to_the_first_candle(page: Page) -> None:
    """Home goes to the oldest candle that is kept, and fetches older ones until there are none."""
    chart = page.get_by_role("slider", name="Chosen candle")
    expect(page.get_by_text("Last closed candle")).to_be_visible()
    chart.press("Home")
    expect(page.get_by_text(re.compile("1,2.. candles here, of at most 6,000"))).to_be_visible()
    chart.press("Home")
    expect(chart).to_have_attribute("aria-valuenow", "0")
    expect(chart).to_have_attribute("aria-valuetext", re.compile("^2026-02-01 11:40"))
