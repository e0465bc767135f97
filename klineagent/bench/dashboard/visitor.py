"""A browser that visits the dashboard: a process of its own.

    python -m klineagent.bench.dashboard.visitor VISIT

It reports `ready`. Each line on its standard input is an order: `look` at the page a few times, and
report `looked` with the times; `open` the tabs, and report `opened` once each shows all; `count`
what they have asked for since, and report `counted`; `close` all, and report `closed`.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec
from msgspec import Struct

from klineagent.bench.child import FAILED, emit

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

_NICE = 19
_PATIENCE_MS = 60_000
_NOTHING = "data:text/html,<p>nothing"
# Times are the page's own, in milliseconds since it was asked for. A frame is looked at once it is
# due, so what it shows is on the screen by then.
_WATCH = """
window.seen = {};
function look() {
  const found = {
    head: document.querySelector("#head dd"),
    coverage: document.querySelector("#coverage [aria-rowcount]:not([aria-rowcount='0'])"),
    candles: document.querySelector("#candles [data-candles]:not([data-candles='0'])"),
  };
  for (const [part, is] of Object.entries(found)) if (is) window.seen[part] ??= performance.now();
  requestAnimationFrame(look);
}
requestAnimationFrame(look);
window.asked = 0;
const ask = window.fetch;
window.fetch = (...request) => {
  window.asked += 1;
  return ask(...request);
};
"""
_ALL_SEEN = "() => Object.keys(window.seen).length === 3"
_PAINT = 'performance.getEntriesByName("first-contentful-paint")[0]?.startTime'
_WEIGHT = """performance.getEntriesByType("resource")
    .filter(({ name }) => /[.](js|css)$/.test(name))
    .reduce((sum, { encodedBodySize }) => sum + encodedBodySize, 0)"""


class Visit(Struct, frozen=True, kw_only=True):
    """What the browser shall do."""

    url: str
    program: str
    """Path of Chromium."""
    looks: int
    """How often the page is looked at anew, with nothing cached."""
    tabs: int
    is_nice: bool = False
    """Whether the browser gives way to all others on this machine: users have it on their own."""


class Look(Struct, frozen=True, kw_only=True):
    """When a page showed its parts, in milliseconds since it was asked for."""

    paint: float
    """The first words."""
    head: float
    """The agent's figures."""
    coverage: float
    candles: float


class Looks(Struct, frozen=True, kw_only=True):
    """What was seen of the page."""

    looks: list[Look]
    nothing_ms: float
    """The first paint of a page of one word, from no server: what the machine needs for it."""
    weight: int
    """Bytes of script and style, as they travel."""


def _run(visit: Visit) -> None:
    from playwright.sync_api import sync_playwright

    if visit.is_nice:
        os.nice(_NICE)  # what this process starts inherits it
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=visit.program) as browser,
    ):
        if visit.is_nice:
            _give_way(browser)
        emit("ready")
        window, opened_at = _window(browser), 0.0
        for order in sys.stdin:
            match order.strip():
                case "look":
                    emit("looked", looks=_look(browser, visit))
                case "open":
                    for _ in range(visit.tabs):
                        _arrive(window.new_page(), visit.url)
                    for page in window.pages:
                        page.evaluate("asked = 0")
                    opened_at = time.monotonic()
                    emit("opened")
                case "count":
                    asked = sum(page.evaluate("asked") for page in window.pages)
                    emit("counted", per_s=asked / (time.monotonic() - opened_at))
                case _:
                    break
    emit("closed")


def _give_way(browser: Browser) -> None:
    """Make the whole browser nice where Linux schedules by session, and it has one of its own."""
    processes = browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")
    for each in processes["processInfo"]:
        with suppress(OSError):
            Path(f"/proc/{each['id']}/autogroup").write_text(str(_NICE), encoding="ascii")


def _look(browser: Browser, visit: Visit) -> Looks:
    looks, weight = [], 0
    for _ in range(visit.looks):
        with _window(browser) as window:
            page = window.new_page()
            _arrive(page, visit.url)
            looks.append(Look(paint=page.evaluate(_PAINT), **page.evaluate("window.seen")))
            weight = page.evaluate(_WEIGHT)
    with _window(browser) as window:
        page = window.new_page()
        page.goto(_NOTHING)
        page.wait_for_function(_PAINT)
        return Looks(looks=looks, nothing_ms=page.evaluate(_PAINT), weight=weight)


def _window(browser: Browser) -> BrowserContext:
    window = browser.new_context()
    window.set_default_timeout(_PATIENCE_MS)
    window.add_init_script(_WATCH)
    return window


def _arrive(page: Page, url: str) -> None:
    page.goto(url)
    page.wait_for_function(_ALL_SEEN)


def _leave(*_: Any) -> NoReturn:
    """End as after the last order, so that the browser ends, too."""
    raise SystemExit


def main() -> None:
    """Visit as the command line says."""
    # Ctrl-C is for the parent process, which terminates this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)
    try:
        _run(msgspec.json.decode(sys.argv[1], type=Visit))
    except ImportError:
        emit(FAILED, error="playwright is not installed: pip install 'klineagent[bench]'")
    except Exception as error:  # noqa: BLE001 - the driver's errors are many; the parent reports them
        emit(FAILED, error=str(error).splitlines()[0])


if __name__ == "__main__":
    main()
