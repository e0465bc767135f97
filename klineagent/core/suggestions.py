"""What somebody may have meant who wrote a name that there is not. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def meant(name: str, known: Iterable[str], *, prefix: str = "", likeness: float = 0.6) -> str:
    """A question for the nearest name of those `known`; nothing if none is near."""
    nearest = get_close_matches(name, known, n=1, cutoff=likeness)
    return f"did you mean {prefix}{nearest[0]}?" if nearest else ""
