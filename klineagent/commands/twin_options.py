"""Options of the commands that run a twin of the exchange."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click


class FiniteRange(click.FloatRange):
    """A number in a range; click takes "nan" for one in any, and "inf" for one in many."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """See `click.ParamType`."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a number", param, ctx)
        return number


POSITIVE = FiniteRange(min=0, min_open=True)
SYMBOL_COUNT = click.IntRange(1, 2000)
SPEED_HELP = "How many times faster than real time."
ARCHIVE = click.option(
    "--archive",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="Replay the candles found in DIR, which is laid out like the exchange's archive.",
)
SEED = click.option("--seed", default=1, show_default=True, metavar="S")
