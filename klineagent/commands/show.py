"""`klineagent show`: what is stored."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import click

from klineagent.commands.options import CA_FILE, CONFIG_FILE, STORE, VENUE
from klineagent.config import Config, load_config
from klineagent.converters import to_intervals
from klineagent.errors import ConfigError, StartError
from klineagent.kline import Interval
from klineagent.logs import LogFormat, configure_logging
from klineagent.running import run
from klineagent.storage.location import FolderLocation, locate
from klineagent.storage.opening import open_store
from klineagent.tables import candles_table, summary_table, updates_table, wide_console

_COUNT = click.IntRange(min=1)


@click.command()
@click.argument("symbol", required=False)
@click.argument("interval", required=False, default="1m")
@click.option("--last", default=10, show_default=True, type=_COUNT, metavar="N")
@click.option("--updates", is_flag=True, help="The states they went through, where those are kept.")
@VENUE
@STORE
@CA_FILE
@CONFIG_FILE
def show(
    file: Path | None,
    symbol: str | None,
    interval: str,
    last: int,
    updates: bool,
    **options: object,
) -> None:
    """Show what is stored: all series, or the newest closed candles of SYMBOL at INTERVAL.

    A chdb folder has one user at a time: stop the agent that writes to it first.
    """
    configure_logging(LogFormat.CONSOLE)
    config = load_config(options, os.environ, file)
    try:
        [wanted] = to_intervals([interval], config.venue)
    except ValueError as error:
        raise ConfigError(f"INTERVAL: {error}") from error
    if updates and symbol is None:
        raise ConfigError("--updates needs a SYMBOL")
    run(partial(_show, config, symbol, wanted, last=last, updates=updates))


async def _show(
    config: Config, symbol: str | None, interval: Interval, *, last: int, updates: bool
) -> None:
    location = locate(config.store)
    if isinstance(location, FolderLocation):
        _demand_an_engine(location.folder)
    async with open_store(config.store, config.ca_file, may_create=False) as store:
        if symbol is None:
            table = summary_table(await store.summary(), title=f"Stored in {store.label}")
        else:
            venue, symbol = config.venue.name, symbol.upper()
            read, what, show_klines = (
                (store.updates, "update", updates_table)
                if updates
                else (store.final_klines, "closed candle", candles_table)
            )
            klines = await read(venue, symbol, interval.value, newest=last)
            if not klines:
                raise StartError(f"no {what} of {symbol} {interval} on {venue} is stored")
            table = show_klines(klines, title=f"{symbol} {interval} on {venue}, times in UTC")
        wide_console().print(table)


def _demand_an_engine(folder: Path) -> None:
    """See that the engine was here before: it makes itself at home in any folder that it opens."""
    try:
        was_here, is_there = (folder / "metadata").is_dir(), folder.is_dir()
    except OSError as error:
        raise StartError(f"{folder} cannot be looked into: {error.strerror}") from error
    if not was_here:
        lacking = "no database is in it" if is_there else "no such folder"
        raise StartError(f"nothing has been recorded in {folder}: {lacking}")
