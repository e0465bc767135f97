"""Imports go one way: which folder may take from which."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.places import ROOT

PACKAGE = ROOT / "klineagent"
MOST_FILES = 14
MOST_LINES = 400
_RECORDS = {"core"}
_PARTS = {*_RECORDS, "exchange", "storage"}
_AGENT = {
    *_PARTS,
    *("config", "process", "bus", "series", "reading", "history", "jobs", "fleet", "api"),
    *("last_run", "agent", "service"),
}
MAY_IMPORT: Mapping[str, set[str]] = {
    "core": set(),
    "process": {"core"},
    "exchange": {"core"},
    "storage": {"core"},
    "bus": {"core"},
    # It checks what is written for venues, stores and log levels by what these know of themselves.
    "config": {*_PARTS, "process"},
    "series": {*_PARTS, "bus"},
    "reading": {*_PARTS, "bus", "series"},
    "history": {*_PARTS, "series"},
    "jobs": {*_PARTS, "series", "history"},
    "fleet": _PARTS,
    "api": {*_PARTS, "bus", "series", "reading", "history", "jobs", "config", "process"},
    "last_run": {*_PARTS, "config", "series", "jobs"},
    "agent": _AGENT - {"agent", "service"},
    "service": {"core", "config", "process", "agent"},
    # A wrong table in the product must not find its equal in the twin.
    "twin": {"core"},
    "testing": {*_PARTS, "config", "agent", "twin"},
    "cli": {*_AGENT, "twin"},
    "proof": {*_AGENT, "twin", "testing", "cli"},
    "bench": {*_AGENT, "cli"},
    "__main__": {"core", "cli"},
}
"""By folder, or module at the top: what it may import of the package besides itself."""


def _imports() -> Iterator[tuple[str, str]]:
    """The importing module and the imported one, by their paths within the package."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("klineagent."):
                module = str(node.module).removeprefix("klineagent.")
                yield path.relative_to(PACKAGE).as_posix(), module


def _part(name: str) -> str:
    return name.replace("/", ".").split(".")[0]


def test_no_import_goes_against_the_arrows() -> None:
    """Nothing takes from what is built on it."""
    against = [
        f"{importer} imports {imported}"
        for importer, imported in _imports()
        if _part(importer) != _part(imported) and _part(imported) not in MAY_IMPORT[_part(importer)]
    ]
    assert against == []


def test_there_is_no_circle() -> None:
    """Neither between folders nor between the folders within them."""
    graph: dict[str, set[str]] = {}
    for importer, imported in _imports():
        graph.setdefault(importer.removesuffix(".py").replace("/", "."), set()).add(imported)
    state: dict[str, bool] = {}

    def visit(module: str, way: tuple[str, ...]) -> None:
        if state.get(module):
            return
        assert module not in way, " -> ".join((*way[way.index(module) :], module))
        for each in graph.get(module, ()):
            visit(each, (*way, module))
        state[module] = True

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize(
    "folder", sorted({path.parent for path in PACKAGE.rglob("*.py")}), ids=lambda each: each.name
)
def test_a_folder_can_be_seen_at_one_look(folder: Path) -> None:
    """A dozen files or so, and a sentence that says what it is for."""
    files = sorted(folder.glob("*.py"))
    assert len(files) <= MOST_FILES
    assert (folder / "__init__.py").read_text().startswith('"""')
    for file in files:
        assert len(file.read_text(encoding="utf-8").splitlines()) <= MOST_LINES, file.name


def test_one_class_name_is_one_class() -> None:
    """Readers need not ask which `Connection` is meant."""
    places: dict[str, list[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(path.relative_to(PACKAGE).as_posix())
    assert {name: found for name, found in places.items() if len(found) > 1} == {}
