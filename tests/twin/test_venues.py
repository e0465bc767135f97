import pytest

from klineagent.core.errors import ConfigError
from klineagent.twin.venues import COINM, SPOT, USDM, venue_named


@pytest.mark.parametrize(
    ("limit", "weight"),
    [
        (None, 5),
        (1, 1),
        (100, 1),
        (101, 2),
        (500, 2),
        (501, 5),
        (1_000, 5),
        (1_001, 10),
        (1_501, 10),
    ],
)
def test_futures_klines_cost_what_was_measured(limit: int | None, weight: int) -> None:
    """Every edge of the bands, the default, and a limit that will be refused."""
    assert USDM.klines_weight(limit) == COINM.klines_weight(limit) == weight


def test_spot_klines_cost_the_same_for_any_limit() -> None:
    """The weight is 2, with a limit or without."""
    assert {SPOT.klines_weight(limit) for limit in (None, 1, 1_000, 5_000)} == {2}


def test_an_unknown_venue_is_an_error() -> None:
    """The message names the known ones."""
    assert venue_named("spot") is SPOT
    with pytest.raises(ConfigError, match="usdm, coinm, spot"):
        venue_named("futures")
