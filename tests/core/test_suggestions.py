"""Suggestions for misspelt names."""

from __future__ import annotations

from klineagent.core.suggestions import suggest


def test_the_nearest_name_is_suggested() -> None:
    """A common prefix is not compared."""
    assert suggest("stroe", ["store", "spool"]) == "did you mean store?"
    assert suggest("STROE", ["STORE", "SPOOL"], prefix="X_") == "did you mean X_STORE?"


def test_nothing_is_suggested_if_no_name_is_near() -> None:
    """The caller has other advice then."""
    assert suggest("nonsense", ["store", "spool"]) == ""
