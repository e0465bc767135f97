"""The proof as users run it."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

CANDLES = 100_000
# Of 24 symbols at 15 intervals each run checks some 50,000 candles; the first, whose agents look
# back only a little, fewer.
MANY = ("--seed", "1", "--runs", "3", "--days", "0.5", "--symbols", "24")


def _prove(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "klineagent", "prove", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_hundred_thousand_candles_are_accounted_for() -> None:
    """None is missing, wrong or doubled, and no limit is broken, whatever fails."""
    proof = _prove(*MANY)
    assert proof.returncode == 0, proof.stderr
    checked = re.search(r"([\d,]+) candles checked, none missing, wrong or doubled", proof.stdout)
    assert checked is not None
    assert int(checked[1].replace(",", "")) >= CANDLES
    for kind in ("kill", "power_cut", "stalling", "store_offline", "twin: losing_closings"):
        assert re.search(rf"{kind} +\d", proof.stdout)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (
            ("--faults", "losing-closing"),
            "there is no losing_closing; did you mean losing_closings? Use all, none, or some of",
        ),
        (("--faults", "nonsense"), "there is no nonsense; use all, none, or some of"),
        (("--venues", "usdm,options"), "--venues: expected some of usdm, coinm, spot"),
        (("--days", "0"), "Invalid value for '--days'"),
        (("--symbols", "none"), "Invalid value for '--symbols'"),
    ],
)
def test_a_wrong_option_is_one_line_with_a_suggestion(
    arguments: tuple[str, ...], reason: str
) -> None:
    """The command ends with exit code 2."""
    proof = _prove(*arguments)
    assert proof.returncode == 2
    assert reason in proof.stderr
