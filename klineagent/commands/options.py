"""Options that set fields of `Config`, for all commands that have one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from attrs import fields_dict

from klineagent.config.model import Config, as_written
from klineagent.config.sources import PREFIX, option_names, spelling
from klineagent.exchange.venues import VENUES

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
