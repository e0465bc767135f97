from __future__ import annotations

import pytest
from click.testing import CliRunner

from klineagent.cli.group import commands
from klineagent.core.errors import ConfigError


def test_an_interval_that_the_twin_does_not_make_is_refused() -> None:
    """The venue has it, so the agent would wait for candles that never come."""
    options = ["--venue", "spot", "--intervals", "1m,1s"]
    with pytest.raises(ConfigError, match="--intervals: the simulated exchange does not make 1s"):
        CliRunner().invoke(commands, ["demo", *options], catch_exceptions=False)
