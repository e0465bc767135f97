"""README's picture of the dashboard, made from the demo.

python -m tests.dashboard.picture
"""

from __future__ import annotations

import base64
import re
import subprocess
import sys

from playwright.sync_api import Page, expect, sync_playwright

from tests.browsers import chromium
from tests.places import ROOT

PICTURE = ROOT / "docs" / "dashboard.webp"
# The demo gets this far on a slow machine, too.
_DEMO = ("demo", "--seconds", "300", "--symbols", "3", "--fault", "losing-closings=0.05")
_WITHIN_MS = 60_000
# A minute of the demo's exchange is a second: the chart has live candles beside those of the past.
_RECORDED_MS = 20_000


def take_picture(page: Page, address: str) -> bytes:
    """Take it once the page has something of everything; as WebP, at a quarter of a PNG's size."""
    page.goto(f"{address}?symbol=BTCUSDT&interval=1m&days=7&filter=BTC")
    expect(page.get_by_text("Last closed candle")).to_be_visible()
    page.wait_for_timeout(_RECORDED_MS)
    page.get_by_role("checkbox", name="each interval").check()
    chart = page.get_by_role("slider", name="Chosen candle")
    for key in ("End", *["ArrowLeft"] * 12, "Enter"):
        chart.press(key)
    expect(page.get_by_role("region", name="Why")).to_contain_text("has its final row")
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    taken = page.context.new_cdp_session(page).send(
        "Page.captureScreenshot", {"format": "webp", "quality": 80}
    )
    return base64.b64decode(taken["data"])


def main() -> None:
    """Run the demo, and look at it."""
    expect.set_options(timeout=_WITHIN_MS)
    command = [sys.executable, "-m", "klineagent", *_DEMO]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as demo,
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=chromium()) as browser,
    ):
        assert demo.stdout is not None
        try:
            found = re.search(r"http\S+", demo.stdout.readline())
            assert found is not None
            window = browser.new_context(
                viewport={"width": 1_200, "height": 1_240}, color_scheme="dark"
            )
            PICTURE.write_bytes(take_picture(window.new_page(), found.group()))
        finally:
            demo.terminate()
            demo.communicate()


if __name__ == "__main__":
    main()
