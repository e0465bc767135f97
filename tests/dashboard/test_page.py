"""The page as it travels: how much of it, and under which policy."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.dashboard.watched import Visit

pytestmark = [pytest.mark.browser, pytest.mark.slow]

MOST_BYTES = 250_000


def test_script_and_style_are_small(visit: Visit) -> None:
    """All that a first visit fetches, with the charts library, as it travels."""
    page = visit().page
    expect(page.get_by_text("Last closed candle")).to_be_visible()
    sizes = page.evaluate(
        """() => performance.getEntriesByType("resource")
            .filter(({ name }) => /[.](js|css)$/.test(name))
            .map(({ encodedBodySize }) => encodedBodySize)"""
    )
    assert len(sizes) > 10
    assert 0 < sum(sizes) < MOST_BYTES
