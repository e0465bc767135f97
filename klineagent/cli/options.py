"""Options that set fields of `Config`, for all commands that have one."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from attrs import fields_dict

from klineagent.api.models.timestamps import read_moment
from klineagent.config.converters import to_intervals, to_symbol
from klineagent.config.model import Config, as_written
from klineagent.config.sources import PREFIX, option_names, spelling
from klineagent.core.errors import ConfigError, InvalidRequest
from klineagent.core.interval import Interval
from klineagent.exchange.venues import VENUES, Venue

_Command = TypeVar("_Command", bound=Callable[..., Any])


def setting(
    name: str, text: str, metavar: str, *, repeated: bool = False
) -> Callable[[_Command], _Command]:
    """Make the option that sets field `name` of `Config`; its help text shows the default.

    A `repeated` one may be given several times, which are then one list.
    """
    default = fields_dict(Config)[name].default
    suffix = "" if default is None else f"  [default: {as_written(default)}]"
    first, *others = option_names(name)

    def add(command: _Command) -> _Command:
        # Separate options: click does not say which spelling of one option was typed.
        for other in others:
            command = click.option(spelling(other), other, metavar=metavar, hidden=True)(command)
        return click.option(
            spelling(first), first, metavar=metavar, help=text + suffix, multiple=repeated
        )(command)

    return add


VENUE = setting(
    "venue", f"Market of symbols that do not name theirs: {', '.join(VENUES)}.", "VENUE"
)
STORE = setting(
    "store",
    "Database: chdb:FOLDER, chdb:///absolute/folder, or"
    " clickhouse://user:password@host:9000/database.",
    "URL",
)
INTERVALS = setting("intervals", "Intervals to record of each symbol.", "1m,5m,...")
CA_FILE = setting(
    "ca_file", "CA certificates that the exchange's and the database's must chain to.", "PEM"
)
SPOOL = setting(
    "spool",
    "Folder for rows the database cannot take, or none.  [default: one per database and venue]",
    "DIR",
)
CONFIG_FILE = click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path),
    envvar=f"{PREFIX}CONFIG",
    help="TOML file with a [klineagent] table; options and environment variables override it.",
)


class FiniteRange(click.FloatRange):
    """A finite number in a range; click alone would accept "nan" and "inf"."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """See `click.ParamType`."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a number", param, ctx)
        return number


def read_symbol(text: str) -> str:
    """Read SYMBOL, and return it in capitals; whether it exists is not checked.

    Raises:
        ConfigError: the text cannot be a symbol.
    """
    try:
        return to_symbol(text)
    except ValueError as error:
        raise ConfigError(f"SYMBOL: {error}") from error


def read_time(text: str | None, name: str) -> int | None:
    """Read a time in ISO 8601, UTC where it has no offset, or in milliseconds; None for none.

    Raises:
        ConfigError: the text is no time.
    """
    try:
        return None if text is None else read_moment(text, field=name)
    except InvalidRequest as error:
        raise ConfigError(str(error)) from error


def read_interval(text: str, venue: Venue | None = None) -> Interval:
    """Read INTERVAL, one of those that `venue` has, or of all.

    Raises:
        ConfigError: there is no such interval.
    """
    try:
        [interval] = to_intervals([text], [] if venue is None else [venue])
    except ValueError as error:
        raise ConfigError(f"INTERVAL: {error}") from error
    return interval
