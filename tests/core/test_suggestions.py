"""What somebody may have meant."""

from __future__ import annotations

from klineagent.core.suggestions import suggest


def test_the_nearest_name_is_asked_for() -> None:
    """With what all names have in common, which is not compared."""
    assert suggest("stroe", ["store", "spool"]) == "did you mean store?"
    assert suggest("STROE", ["STORE", "SPOOL"], prefix="X_") == "did you mean X_STORE?"


def test_where_none_is_near_nothing_is_asked() -> None:
    """Whoever tells of it has other advice."""
    assert suggest("nonsense", ["store", "spool"]) == ""
