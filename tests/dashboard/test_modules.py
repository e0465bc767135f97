"""Parts of the page that need no agent, in the browser that runs them."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, Route

pytestmark = pytest.mark.browser
FILES = Path(str(resources.files("klineagent.api.dashboard"))) / "page"


def call(page: Page, name: str, *arguments: Any) -> Any:
    """Call what a module of the page exports, such as `news.merged`."""
    module, _, function = name.partition(".")
    return page.evaluate(
        "async ([path, name, given]) => (await import(path))[name](...given)",
        [f"/dashboard/{module}.js", function, arguments],
    )


def overview(**news: Any) -> dict[str, Any]:
    """Return what the page merges of an overview."""
    return {"points": [], "events": [], "losses": [], **news}


def loss(number: int, first: str, last: str, symbol: str = "BTCUSDT") -> dict[str, Any]:
    """Return lost candles of 12 o'clock, from one minute to another."""
    return {
        "number": number,
        "venue": "usdm",
        "symbol": symbol,
        "interval": "1m",
        "from": f"2026-02-01T12:{first}:00+00:00",
        "to": f"2026-02-01T12:{last}:00+00:00",
    }


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page without an agent, whose modules can be called."""

    def send_file(route: Route) -> None:
        name = urlsplit(route.request.url).path.rpartition("/")[2]
        route.fulfill(path=FILES / name) if name else route.fulfill(body="")

    with browser.new_context() as window:
        window.route("**/*", send_file)
        page = window.new_page()
        page.goto("http://page.test/")
        yield page


def test_what_overviews_tell_is_kept_within_bounds(page: Page) -> None:
    """Points and events of all answers follow each other, and the oldest go."""
    first = overview(points=[*range(300)], events=[*range(299)])
    second = overview(points=[*range(300, 400)], events=[299, 300, 301])

    merged = call(page, "news.merged", first, second)

    assert merged["points"] == [*range(40, 400)]
    assert merged["events"] == [*range(2, 302)]


def test_a_loss_that_grew_replaces_what_it_covers(page: Page) -> None:
    """Ranges that were joined into one are gone; those of other series stay."""
    before = overview(
        losses=[loss(1, "01", "02"), loss(2, "02", "02", "ETHUSDT"), loss(3, "04", "04")]
    )

    merged = call(page, "news.merged", before, overview(losses=[loss(4, "01", "04")]))

    assert [each["number"] for each in merged["losses"]] == [2, 4]


def test_a_loss_told_twice_in_one_answer_is_kept_once(page: Page) -> None:
    """Of a range that grew between two polls only its newest state stays."""
    news = overview(losses=[loss(1, "01", "02"), loss(2, "01", "03")])

    merged = call(page, "news.merged", overview(), news)

    assert [each["number"] for each in merged["losses"]] == [2]


def test_a_duration_is_said_in_the_unit_of_its_size(page: Page) -> None:
    """Milliseconds, seconds, minutes, hours, days: never more than two of them."""
    said = {
        0: "0 s",
        0.0042: "4.2 ms",
        0.25: "250 ms",
        3.14: "3.1 s",
        5: "5 s",
        9.97: "10 s",
        59.7: "1 min",
        184: "3 min 4 s",
        7_200: "2 h",
        190_800: "2 d 5 h",
    }

    assert {seconds: call(page, "format.duration", seconds) for seconds in said} == said


def test_names_become_entries_of_the_set(page: Page) -> None:
    """Symbols share an entry, each pattern has its own, and all intervals have one word."""
    entries = call(page, "change.entriesOf", "btcusdt, *USDC\n spot:ETHUSDT;", ["1m", "1h"])

    assert entries == [
        {"symbols": ["btcusdt", "spot:ETHUSDT"], "intervals": ["1m", "1h"]},
        {"match": {"name": "*USDC"}, "intervals": ["1m", "1h"]},
    ]


def test_symbols_at_the_same_intervals_are_removed_in_one_entry(page: Page) -> None:
    """Thousands fit into one request; patterns and other intervals stay apart."""
    pattern = {"match": {"name": "*USDC"}, "intervals": "all"}
    entries = [
        {"symbols": ["BTCUSDT"], "intervals": ["1m"]},
        pattern,
        {"symbols": ["ETHUSDT"], "intervals": ["1m"]},
        {"symbols": ["SOLUSDT"], "intervals": "all"},
    ]

    assert call(page, "change.together", entries) == [
        {"symbols": ["BTCUSDT", "ETHUSDT"], "intervals": ["1m"]},
        pattern,
        {"symbols": ["SOLUSDT"], "intervals": "all"},
    ]
