"""`/docs` in a browser."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from html import unescape
from pathlib import Path

import pytest
import trio
from quart import request
from quart_trio import QuartTrio

from klineagent.api.routes.commands import command_app
from klineagent.api.subscriptions import Subscriptions
from klineagent.core.interval import Interval
from klineagent.exchange.venues import USDM
from tests.api.server.test_listen import serving
from tests.browsers import chromium

pytestmark = pytest.mark.browser

_WITHIN_S = 60
# No sandbox, for it needs rights that root in a container lacks, and the page is ours; nor much
# shared memory, of which a container may have little.
_HEADLESS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    "--enable-logging=stderr",
)
# Of the page's own clock: its script is done long before.
_PATIENCE = "--virtual-time-budget=5000"

Show = Callable[[str], "Shown"]


class Shown:
    """A page when its script has run."""

    def __init__(self, ended: subprocess.CompletedProcess[bytes]) -> None:
        self.dom = ended.stdout.decode()
        log = ended.stderr.decode(errors="replace")
        self.complaints = [line for line in log.splitlines() if "CONSOLE" in line]
        """Errors and refusals logged on the browser's console."""


@pytest.fixture
def browser() -> str:
    """The machine's Chromium."""
    return chromium()


async def _shown(browser: str, url: str, profile: Path) -> Shown:
    command = [browser, *_HEADLESS, _PATIENCE, f"--user-data-dir={profile}", "--dump-dom", url]
    with trio.fail_after(_WITHIN_S):
        return Shown(await trio.run_process(command, capture_stdout=True, capture_stderr=True))


@pytest.fixture
def app(subscriptions: Subscriptions) -> QuartTrio:
    """The command app over an empty twin."""
    return command_app(subscriptions, [Interval.M1, Interval.H1], USDM)


async def test_a_browser_shows_every_operation_and_how_to_call_it(
    app: QuartTrio, browser: str, tmp_path: Path
) -> None:
    """The script runs under the policy of its own page, and nothing is refused."""
    document = await (await app.test_client().get("/openapi.json")).get_json()
    operations = [
        (path, method.upper(), each)
        for path, methods in document["paths"].items()
        for method, each in methods.items()
    ]
    async with serving(app) as bind:
        shown = await _shown(browser, f"http://{bind}/docs#add_stream", tmp_path)
    assert shown.complaints == []
    text = unescape(re.sub(r"<(?:style|script)>.*?</(?:style|script)>|<[^>]*>", " ", shown.dom))
    assert document["info"]["title"] in text
    for path, method, each in operations:
        assert f'id="{each["operationId"]}"' in shown.dom
        assert f"{method} {path}" in re.sub(r"\s+", " ", text)
        assert each["summary"] in text
        assert f"http://{bind}{path}" in text
    assert re.findall(r'<details id="(\w+)" open', shown.dom) == ["add_stream"]


async def test_a_browser_says_why_there_is_nothing_to_show(
    browser: str, tmp_path: Path, app: QuartTrio
) -> None:
    """When the description cannot be fetched."""

    @app.before_request
    async def refuse() -> tuple[str, int] | None:
        return ("no", 503) if request.path == "/openapi.json" else None

    async with serving(app) as bind:
        shown = await _shown(browser, f"http://{bind}/docs", tmp_path)
    assert "<p>openapi.json: " in shown.dom
