"""A page of which nothing is overlooked: whatever it complains of fails its test."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import urlsplit

from attrs import define, field
from playwright.sync_api import ConsoleMessage, Page, Request, Response

_FAILED = 400


@define(eq=False, slots=False)  # the driver puts attributes of its own here
class Watched:
    """Collects console lines, errors, refusals of its policy, and requests that failed or left."""

    page: Page
    _origin: str
    complaints: list[str] = field(factory=list)
    _claims: list[re.Pattern[str]] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        # Violations of the policy are lines of the console.
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        self.page.on("request", self._request)
        self.page.on("requestfailed", self._failed)
        self.page.on("response", self._response)

    def claim(self, pattern: str) -> None:
        """Expect complaints that `pattern` finds."""
        self._claims.append(re.compile(pattern))

    @property
    def unclaimed(self) -> list[str]:
        """What no one has announced."""
        return [
            each
            for each in self.complaints
            if not any(pattern.search(each) for pattern in self._claims)
        ]

    def _console(self, message: ConsoleMessage) -> None:
        place = message.location["url"]
        self.complaints.append(f"console {message.type}: {message.text} ({place})")

    def _request(self, request: Request) -> None:
        if not request.url.startswith("data:") and _origin_of(request.url) != self._origin:
            self.complaints.append(f"elsewhere: {request.url}")

    def _failed(self, request: Request) -> None:
        # What was under way when the page was left is no failure.
        if request.failure != "net::ERR_ABORTED":
            self.complaints.append(f"failed: {request.method} {request.url}: {request.failure}")

    def _response(self, response: Response) -> None:
        if response.status >= _FAILED:
            self.complaints.append(f"status {response.status}: {response.url}")


Visit = Callable[..., Watched]
"""Opens an address of the page, with options of the window."""


def _origin_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
