"""Options that set fields of `Config`, for all commands that have one."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from attrs import fields_dict

from klineagent.config.converters import to_intervals, to_symbol
from klineagent.config.model import Config, as_written
from klineagent.config.sources import PREFIX, option_names, spelling
from klineagent.core.errors import ConfigError
from klineagent.core.interval import Interval
from klineagent.exchange.venues import VENUES, Venue

_Command = TypeVar("_Command", bound=Callable[..., Any])


def setting(name: str, text: str, metavar: str) -> Callable[[_Command], _Command]:
    """The option that sets field `name` of `Config`; its default is told, and kept there."""
    default = fields_dict(Config)[name].default
    told = "" if default is None else f"  [default: {as_written(default)}]"
    first, *others = option_names(name)

    def add(command: _Command) -> _Command:
        # Options of their own: of one with two spellings nobody knows which was typed.
        for other in others:
            command = click.option(spelling(other), other, metavar=metavar, hidden=True)(command)
        return click.option(spelling(first), first, metavar=metavar, help=text + told)(command)

    return add


VENUE = setting("venue", f"The market: {', '.join(VENUES)}.", "VENUE")
STORE = setting(
    "store",
    "chdb:FOLDER, chdb:///absolute/folder, or clickhouse://user:password@host:9000/database.",
    "URL",
)
INTERVALS = setting("intervals", "What adding a symbol adds.", "1m,5m,...")
CA_FILE = setting(
    "ca_file", "Authorities that vouch for the exchange's and the database's certificates.", "PEM"
)
SPOOL = setting(
    "spool",
    "The folder for rows the database cannot take, or none.  [default: one per database and venue]",
    "DIR",
)
CONFIG_FILE = click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path),
    envvar=f"{PREFIX}CONFIG",
    help="A TOML file with a table [klineagent]; options and environment win over it.",
)


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


def read_symbol(text: str) -> str:
    """SYMBOL, in capitals, whether it exists or not.

    Raises:
        ConfigError: it cannot be one.
    """
    try:
        return to_symbol(text)
    except ValueError as error:
        raise ConfigError(f"SYMBOL: {error}") from error


def read_interval(text: str, venue: Venue | None = None) -> Interval:
    """INTERVAL, of those of `venue` or of any.

    Raises:
        ConfigError: there is none such.
    """
    try:
        [interval] = to_intervals([text], venue)
    except ValueError as error:
        raise ConfigError(f"INTERVAL: {error}") from error
    return interval
