"""Chromium, one for all tests of a process, and a window for each."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from playwright.sync_api import Browser, expect, sync_playwright

from tests.browsers import chromium
from tests.dashboard.looks import WIDE, keep_looks
from tests.dashboard.watched import Visit, Watched
from tests.dashboard.world import World, open_world

WITHIN_MS = 20_000

Driven = tuple[Browser, asyncio.AbstractEventLoop]


@pytest.fixture(scope="session")
def _driven() -> Iterator[Driven]:
    expect.set_options(timeout=WITHIN_MS)
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=chromium()) as browser,
    ):
        loop = asyncio.get_running_loop()
        asyncio._set_running_loop(None)
        yield browser, loop
        asyncio._set_running_loop(loop)


@pytest.fixture
def browser(_driven: Driven) -> Iterator[Browser]:
    """The browser. The loop of its driver counts as running in this thread during the test only."""
    browser, loop = _driven
    asyncio._set_running_loop(loop)
    yield browser
    asyncio._set_running_loop(None)


@pytest.fixture
def loop() -> Iterator[BlockingPortal]:
    """Where exchange and agent run."""
    with start_blocking_portal("trio") as loop:
        yield loop


@pytest.fixture
def world(loop: BlockingPortal, request: pytest.FixtureRequest) -> Iterator[World]:
    """An exchange and an agent that records from it; an indirect parameter has its settings."""
    settings: dict[str, Any] = getattr(request, "param", {})
    with open_world(loop, **settings) as world:
        yield world


@pytest.fixture
def visit(browser: Browser, world: World, request: pytest.FixtureRequest) -> Iterator[Visit]:
    """Open an address in a window of its own; a complaint that no one claimed fails the test."""
    seen: list[Watched] = []
    with ExitStack() as windows:

        def open_window(address: str | None = "/", **options: Any) -> Watched:
            window = browser.new_context(**{"viewport": WIDE, "color_scheme": "light", **options})
            windows.callback(window.close)
            watched = Watched(window.new_page(), world.origin)
            seen.append(watched)
            if address is not None:
                watched.page.goto(world.origin + address)
            return watched

        yield open_window
        for number, each in enumerate(seen):
            keep_looks(each.page, f"{request.node.name}-{number}" if number else request.node.name)
    assert [line for each in seen for line in each.unclaimed] == []
