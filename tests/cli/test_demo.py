from __future__ import annotations

import re

import pytest
from click.testing import CliRunner

from klineagent.cli.group import commands
from klineagent.core.errors import ConfigError


def test_both_venues_are_recorded_by_one_agent() -> None:
    """Three symbols of each, as the database tells afterwards."""
    pytest.importorskip("chdb")
    options = ["--seconds", "3", "--intervals", "1m"]
    result = CliRunner().invoke(commands, ["demo", *options], catch_exceptions=False)
    assert re.match(r"Look at it: http://127.0.0.1:\d+/\n", result.output)
    assert "6 streams of 6 symbols of usdm and spot" in result.output
    for series in ("usdm   BTCUSDT", "spot   BTCUSDT", "usdm   SOLUSDT"):
        assert series in result.output


def test_candles_that_the_exchange_does_not_close_are_stored_all_the_same() -> None:
    """The agent fetches them."""
    pytest.importorskip("chdb")
    options = ["--seconds", "4", "--intervals", "1m", "--venue", "usdm", "--symbols", "1"]
    fault = ["--fault", "losing-closings"]
    result = CliRunner().invoke(commands, ["demo", *options, *fault], catch_exceptions=False)
    stored = re.search(r"(\d+) closed candles stored", result.output)
    assert stored is not None
    assert int(stored[1]) > 1_000


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--venue", "spot", "--venues", "usdm"), "--venue cannot be used with --venues"),
        (("--venues", "usdm,options"), "--venues: expected some of usdm, coinm, spot"),
        (("--fault", "reordring"), "--fault: no kind 'reordring'"),
        (("--intervals", "1s", "--venues", "usdm"), "there is no 1s on usdm"),
    ],
)
def test_a_wrong_option_is_refused_in_one_line(options: tuple[str, ...], reason: str) -> None:
    """Nothing has been started by then."""
    with pytest.raises(ConfigError, match=reason) as refused:
        CliRunner().invoke(commands, ["demo", *options], catch_exceptions=False)
    assert "\n" not in str(refused.value)


def test_spots_seconds_can_be_watched() -> None:
    """The simulated exchange makes every interval that the venue has."""
    pytest.importorskip("chdb")
    options = ["--venue", "spot", "--intervals", "1s", "--symbols", "1", "--seconds", "3"]
    result = CliRunner().invoke(commands, ["demo", *options], catch_exceptions=False)
    stored = re.search(r"(\d+) closed candles stored", result.output)
    assert stored is not None
    # At 60 times real time, beside 1,000 candles from before.
    assert int(stored[1]) > 1_000
