"""`klineagent demo`: the demonstration."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import click

from klineagent.cli.demonstration import Demo, check_intervals, run_demo
from klineagent.cli.options import INTERVALS, VENUE
from klineagent.cli.running import run
from klineagent.cli.twin_options import ARCHIVE, POSITIVE, SEED, SPEED_HELP, SYMBOL_COUNT
from klineagent.config.model import load_config
from klineagent.process.logs import LogFormat, LogLevel, configure_logging
from klineagent.twin.exchange import open_market


@click.command()
@click.option("--seconds", default=20.0, show_default=True, type=POSITIVE, metavar="N")
@click.option("--symbols", default=5, show_default=True, type=SYMBOL_COUNT, metavar="N")
@click.option(
    "--speed", default=60.0, show_default=True, type=POSITIVE, metavar="X", help=SPEED_HELP
)
@ARCHIVE
@SEED
@INTERVALS
@VENUE
@click.option("--store", help="Keep what is recorded.  [default: a folder that is deleted]")
def demo(
    seconds: float,
    symbols: int,
    speed: float,
    archive: Path | None,
    seed: int,
    **options: object,
) -> None:
    """Show all of it at once: exchange twin, agent and database in one process.

    Ends after --seconds or Ctrl-C with what is then in the database.
    """
    configure_logging(LogFormat.CONSOLE, level=LogLevel.WARNING)
    config = load_config(options, {}, None)
    check_intervals(config)
    market = open_market(
        archive=archive,
        symbols=symbols,
        seed=seed,
        venue_name=config.venue.name,
        start_ms=time.time_ns() // 1_000_000,
    )
    shown = Demo(
        config=config,
        keeps=options["store"] is not None,
        market=market,
        symbols=tuple(listing.symbol for listing in market.listings)[:symbols],
        seconds=seconds,
        speed=speed,
    )
    run(partial(run_demo, shown))
