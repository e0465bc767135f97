"""Which numbers options take."""

from __future__ import annotations

import click
import pytest

from klineagent.cli.options import FiniteRange


def test_a_number_in_the_range_is_taken() -> None:
    """As click does it."""
    assert FiniteRange(min=0.1).convert("2.5", None, None) == 2.5


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "0", "many"])
def test_what_is_no_number_of_the_range_is_refused(text: str) -> None:
    """Not a number is in no range, and infinity in none that is of use."""
    with pytest.raises(click.BadParameter):
        FiniteRange(min=0.1).convert(text, None, None)
