"""Options of the commands that run a twin of the exchange."""

from __future__ import annotations

from pathlib import Path

import click

from klineagent.cli.options import FiniteRange

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
