"""docs/logs.md has a line for every event, with its level and its fields, and for no other."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import klineagent

PACKAGE = Path(klineagent.__file__).parent
PAGE = PACKAGE.parent / "docs" / "logs.md"
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
# What `logging.LogRecord` calls its own: the standard library refuses such fields.
TAKEN = {"name", "msg", "args", "module", "message", "asctime", "levelname", "process", "thread"}

LoggedEvent = tuple[frozenset[str], frozenset[str]]
"""Levels and fields of an event."""


def _log_calls() -> Iterator[tuple[str, str, set[str]]]:
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                yield from _of_log(node, file.name)
                yield from _of_trouble(node)


def _of_log(call: ast.Call, where: str) -> Iterator[tuple[str, str, set[str]]]:
    """`log.info("event", field=...)`."""
    function = call.func
    if not (
        isinstance(function, ast.Attribute)
        and function.attr in LEVELS
        and isinstance(function.value, ast.Name)
        and function.value.id == "log"
    ):
        return
    match call.args:
        case [ast.Constant(value=str(event))]:
            level = "error" if function.attr == "exception" else function.attr
            fields = {each.arg for each in call.keywords if each.arg and each.arg != "exc_info"}
            yield event, level, fields
        case _:
            assert where == "retry.py", f"{where}:{call.lineno}: an event is a constant name"


def _of_trouble(call: ast.Call) -> Iterator[tuple[str, str, set[str]]]:
    """`Trouble("event", "event_over")` logs both, `Burst("event")` one."""
    match call:
        case ast.Call(
            func=ast.Name(id="Trouble"),
            args=[ast.Constant(value=str(event)), ast.Constant(value=str(over))],
        ):
            yield event, "warning", {"error"}
            yield over, "info", {"after_s"}
        case ast.Call(func=ast.Name(id="Burst"), args=[ast.Constant(value=str(event))]):
            yield event, "warning", {"count", "newest"}


def _in_code() -> dict[str, LoggedEvent]:
    levels: dict[str, set[str]] = defaultdict(set)
    fields: dict[str, set[str]] = defaultdict(set)
    for event, level, its_fields in _log_calls():
        levels[event].add(level)
        fields[event] |= its_fields
    return {event: (frozenset(levels[event]), frozenset(fields[event])) for event in levels}


def _on_page() -> dict[str, LoggedEvent]:
    rows = re.findall(r"^\| `(\w+)` \| ([\w, ]+) \|([^|]*)\|", PAGE.read_text(), re.MULTILINE)
    return {
        event: (frozenset(levels.split(", ")), frozenset(re.findall(r"`(\w+)`", fields)))
        for event, levels, fields in rows
    }


def test_every_event_is_documented() -> None:
    """By name; and every documented event is logged."""
    assert sorted(_on_page()) == sorted(_in_code())


def test_levels_and_fields_are_documented() -> None:
    """The page has those of every call; it may have more, which a call passes on."""
    page = _on_page()
    for event, (levels, fields) in _in_code().items():
        told_levels, told_fields = page.get(event, (levels, fields))
        assert levels <= told_levels, f"{event}: levels {sorted(levels)}"
        assert fields <= told_fields, f"{event}: fields {sorted(fields)}"


def test_names_are_of_one_kind() -> None:
    """Words with underscores, and none that logging reserves."""
    for event, (_, fields) in _in_code().items():
        for name in (event, *fields):
            assert re.fullmatch(r"[a-z][a-z0-9_]*", name), f"{event}: {name}"
        assert not fields & TAKEN, f"{event}: {sorted(fields & TAKEN)}"
