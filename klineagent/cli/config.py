"""`klineagent config show`: prints each setting and where its value comes from."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import attrs
import click
import msgspec
from msgspec import Struct
from rich import box
from rich.table import Table
from rich.text import Text

from klineagent.cli.serve import serve
from klineagent.cli.tables import wide_console
from klineagent.config.loading import trace_config
from klineagent.config.model import Config, as_shown

_DEFAULT = "default"
_SECRET = "***"  # noqa: S105 - shown in place of a secret


class Setting(Struct, frozen=True):
    """One setting, safe to print."""

    name: str
    value: str | None
    """The value as a user would write it, without secrets; None where nothing is set."""
    source: str
    """The option, the variable, or the file and its key that set it; or "default"."""


@click.group("config")
def config_group() -> None:
    """Inspect the configuration."""


_JSON = click.Option(["--json", "as_json"], is_flag=True, help="Print JSON.")


@config_group.command(params=[*serve.params, _JSON])
def show(file: Path | None, symbols: tuple[str, ...], as_json: bool, **options: object) -> None:
    """Show the settings `klineagent serve` would run with, given the same arguments.

    Each value is shown with its source: an option, a variable, a key of the file, or the default.
    """
    given = {"symbols": ",".join(symbols) or None, **options}
    settings = settings_of(*trace_config(given, os.environ, file))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(settings)))
    else:
        wide_console().print(settings_table(settings))


def settings_of(config: Config, sources: Mapping[str, str]) -> list[Setting]:
    """List all settings in declaration order; `sources` has those not left at their default."""
    return [
        Setting(each.name, _shown(config, each), sources.get(each.name, _DEFAULT))
        for each in attrs.fields(Config)
    ]


def settings_table(settings: Iterable[Setting]) -> Table:
    """Make a table with a line per setting."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name in ("setting", "value", "source"):
        table.add_column(name, overflow="fold")
    for each in settings:
        # Not as markup: an address may stand in brackets.
        value = Text("none", style="dim") if each.value is None else Text(each.value)
        source = Text(each.source, style="dim" if each.source == _DEFAULT else "")
        table.add_row(each.name, value, source)
    return table


def _shown(config: Config, setting: attrs.Attribute[object]) -> str | None:
    value = getattr(config, setting.name)
    if value is None:
        value = _derived(config).get(setting.name)
    if value is None or value == ():
        return None
    return as_shown(value) if setting.repr else _SECRET


def _derived(config: Config) -> dict[str, object]:
    """Return the values that take the place of settings left unset."""
    return {
        "ws_url": config.ws_url_of(config.venue),
        "rest_url": config.rest_url_of(config.venue),
        "spool": config.spool_folder,
        "state": config.state_file,
    }
