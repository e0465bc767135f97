"""Suggestions for misspelt names. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def suggest(name: str, known: Iterable[str], *, prefix: str = "", likeness: float = 0.6) -> str:
    """Ask whether the nearest of the `known` names was meant; empty if none is near."""
    nearest = get_close_matches(name, known, n=1, cutoff=likeness)
    return f"did you mean {prefix}{nearest[0]}?" if nearest else ""
