"""What a page looks like: sizes, themes, and pictures of both."""

from __future__ import annotations

import re
from typing import Literal

from playwright.sync_api import Page, ViewportSize

from tests.places import ROOT

WIDE: ViewportSize = {"width": 1_280, "height": 900}
NARROW: ViewportSize = {"width": 390, "height": 844}
_LOOKS: tuple[tuple[str, Literal["light", "dark"], ViewportSize], ...] = (
    ("light", "light", WIDE),
    ("phone", "dark", NARROW),
)
_SCREENSHOTS = ROOT / ".screenshots"


def keep_looks(page: Page, name: str) -> None:
    """Keep pictures of the page as it is now: light, and dark on a phone."""
    stem = re.sub(r"\W+", "-", name).strip("-")
    for look, theme, size in _LOOKS:
        page.emulate_media(color_scheme=theme)
        page.set_viewport_size(size)
        page.screenshot(path=_SCREENSHOTS / f"{stem}-{look}.png", full_page=True)
