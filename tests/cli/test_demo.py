from __future__ import annotations

import re

import pytest
from click.testing import CliRunner

from klineagent.cli.group import commands


def test_spots_seconds_can_be_watched() -> None:
    """The simulated exchange makes every interval that the venue has."""
    pytest.importorskip("chdb")
    options = ["--venue", "spot", "--intervals", "1s", "--symbols", "1", "--seconds", "3"]
    result = CliRunner().invoke(commands, ["demo", *options], catch_exceptions=False)
    stored = re.search(r"(\d+) closed candles stored", result.output)
    assert stored is not None
    # At 60 times real time, beside 500 candles from before.
    assert int(stored[1]) > 500
