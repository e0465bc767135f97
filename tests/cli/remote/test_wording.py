"""Amounts as they are written on a terminal."""

from __future__ import annotations

from klineagent.cli.remote.wording import duration, short


def test_numbers_for_people() -> None:
    """One unit each."""
    assert [duration(each) for each in (0, 119, 120, 7199, 7200, 172_800)] == [
        *("0s", "119s", "2m", "120m", "2h", "2d")
    ]
    assert [short(each) for each in (0, 999, 1000, 1_870_000, 2e15)] == [
        *("0", "999", "1k", "1.87M", "2e+03T")
    ]
