"""The docs agree with the code."""

from __future__ import annotations

import re

from attrs import NOTHING, fields_dict

from klineagent.config.model import Config, as_written
from klineagent.config.sources import OLD_VARIABLES
from tests.places import ROOT

DOCS = ROOT / "docs"
README = DOCS.parent / "README.md"


def _settings() -> dict[str, str]:
    """The documented defaults, by file key."""
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
    documented = _settings()
    assert documented.keys() == fields_dict(Config).keys()
    for name, field in fields_dict(Config).items():
        if field.default not in (None, NOTHING, ()):
            assert documented[name] == as_written(field.default), name


def test_the_old_variables_are_documented() -> None:
    """Users who move from the old agent find the names that still work."""
    page = (DOCS / "configuration.md").read_text()
    assert [name for name in OLD_VARIABLES.values() if f"`{name}`" not in page] == []


def test_links_between_pages_work() -> None:
    """No page links to a file that does not exist."""
    for page in (README, *DOCS.glob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} -> {target}"


def test_architecture_names_paths_that_exist() -> None:
    """Each file and folder on the page exists, in the package or in the repository."""
    page = (DOCS / "architecture.md").read_text()
    paths = re.findall(r"`([\w/]+(?:\.\w+|/))`", page)
    assert len(paths) > 50
    package = ROOT / "klineagent"
    assert [
        each for each in paths if not ((ROOT / each).exists() or (package / each).exists())
    ] == []


def test_architecture_lists_every_folder() -> None:
    """The tree at its top is that of the package."""
    tree = (DOCS / "architecture.md").read_text().split("```")[1]
    listed, parents = set(), [""]
    for indent, name in re.findall(r"^( *)(\w+)/ ", tree, re.MULTILINE):
        parents[len(indent) // 2 + 1 :] = [f"{parents[len(indent) // 2]}{name}/"]
        listed.add(parents[-1])
    package = ROOT / "klineagent"
    assert listed == {
        f"{each.parent.relative_to(package).as_posix()}/" for each in package.rglob("*/__init__.py")
    }
