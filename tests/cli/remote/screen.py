"""What a person sees of a view."""

from __future__ import annotations

import io

from rich.console import Console, RenderableType


def screen(view: RenderableType) -> list[str]:
    """The lines on a terminal of 80 columns."""
    console = Console(file=io.StringIO(), width=80)
    console.print(view)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def words_of(lines: list[str], first: str) -> list[str]:
    """The words of the line that begins with the word `first`."""
    return next(line.split() for line in lines if line.split()[:1] == [first])
