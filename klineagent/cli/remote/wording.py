"""How amounts are written on a terminal. Pure."""

from __future__ import annotations

_DAY_S = 86_400
_KILO = 1000
_UNITS = ("", "k", "M", "G", "T")


def duration(seconds: float) -> str:
    """Format seconds in one unit, such as 90s, 5m or 3h."""
    for unit, letter in ((_DAY_S, "d"), (3600, "h"), (60, "m")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f}{letter}"
    return f"{seconds:.0f}s"


def counted(number: int, thing: str) -> str:
    """Format a count of things, whose plural must be regular."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def short(number: float) -> str:
    """Format a large number in few characters, such as 1.23M."""
    at = 0
    while number >= _KILO and at < len(_UNITS) - 1:
        number, at = number / _KILO, at + 1
    return f"{number:.3g}{_UNITS[at]}"
