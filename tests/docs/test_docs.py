"""The docs tell what the code does."""

from __future__ import annotations

import re

from attrs import NOTHING, fields_dict

from klineagent.config.model import Config, as_written
from klineagent.config.sources import OLD_VARIABLES
from tests.places import ROOT

DOCS = ROOT / "docs"
README = DOCS.parent / "README.md"


def _settings() -> dict[str, str]:
    """The default that the docs tell, by file key."""
    rows = re.findall(r"^\|(.*)\|$", (DOCS / "configuration.md").read_text(), re.MULTILINE)
    cells = [[cell.strip() for cell in row.split("|")] for row in rows]
    return {
        key: default.strip("`")
        for _, keys, default, *_ in (row for row in cells if len(row) >= 3)
        for key in re.findall(r"`(\w+)`", keys)
        if key in fields_dict(Config)
    }


def test_every_setting_is_documented_with_its_default() -> None:
    """A field that is new or has another default needs a line in the docs."""
    told = _settings()
    assert told.keys() == fields_dict(Config).keys()
    for name, field in fields_dict(Config).items():
        if field.default not in (None, NOTHING, ()):
            assert told[name] == as_written(field.default), name


def test_the_old_variables_are_documented() -> None:
    """Who moves from the old agent finds the names that still work."""
    page = (DOCS / "configuration.md").read_text()
    assert [name for name in OLD_VARIABLES.values() if f"`{name}`" not in page] == []


def test_links_between_pages_lead_somewhere() -> None:
    """No page points to a file that is not there."""
    for page in (README, *DOCS.glob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} -> {target}"
