"""Reads settings from the command line, the environment and a file; knows their names there."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from klineagent.core.errors import ConfigError
from klineagent.core.suggestions import suggest

FILE_TABLE = "klineagent"
PREFIX = "KLINEAGENT_"
# Variables of the previous agent; the new names win.
OLD_VARIABLES = {
    "command_bind": "DATA_AGENT_PORT",
    "status_bind": "DATA_AGENT_STATUS_PORT",
    "max_symbols": "DATA_AGENT_MAX_SYMBOL",
    "register_ip": "DATA_AGENT_REGISTER_IP",
    "register_port": "DATA_AGENT_REGISTER_PORT",
    "agent_ip": "DATA_AGENT_IP",
    "intervals": "DATA_AGENT_KLINE_INTERVALS",
    "self_update_interval_s": "DATA_AGENT_SELF_UPDATE_INTERVAL",
    "ws_url": "STREAM_URL",
}
# Variables that set no field: the configuration file, and the agent's URL for clients.
_OTHER_VARIABLES = frozenset({f"{PREFIX}CONFIG", f"{PREFIX}AGENT"})
# Kubernetes sets these in every container beside a service called klineagent.
_SERVICE_VARIABLES = re.compile(rf"{PREFIX}(SERVICE_HOST|(SERVICE_)?PORT(_.+)?)")
# Options with a shorter name than their field; the field's name works as well.
SHORT_OPTIONS = {"lookback_s": "lookback", "grace_s": "grace"}


class SettingEntry(NamedTuple):
    """A value as the user wrote it, with the name the user knows it by."""

    field: str
    label: str
    value: object


def option_names(field: str) -> list[str]:
    """Return the names of the options that set a field of `Config`; the first one is shown."""
    return [name for name in (SHORT_OPTIONS.get(field), field) if name]


def spelling(name: str) -> str:
    """Return an option as it is typed; symbols are arguments."""
    return "SYMBOL" if name == "symbols" else f"--{name.replace('_', '-')}"


def variable(field: str) -> str:
    """Return the variable that sets a field of `Config`."""
    return f"{PREFIX}{field.upper()}"


def read_options(options: Mapping[str, object], fields: Iterable[str]) -> list[SettingEntry]:
    """Read the values of the command line; None, or no value, means an option was not given."""
    return [
        SettingEntry(field, spelling(name), value)
        for field in fields
        for name in option_names(field)
        if (value := options.get(name)) not in (None, ())
    ]


def read_environment(environ: Mapping[str, str], fields: Iterable[str]) -> list[SettingEntry]:
    """Read the values of variables; empty ones are ignored."""
    entries = []
    for field in fields:
        for name in (variable(field), OLD_VARIABLES.get(field, "")):
            if value := environ.get(name, "").strip():
                entries.append(SettingEntry(field, name, value))
                break
    return entries


def unknown_variables(environ: Collection[str], fields: Collection[str]) -> Iterator[str]:
    """Describe each variable with our prefix that sets nothing, a line each."""
    known = {variable(each) for each in fields} | _OTHER_VARIABLES
    for name in environ:
        is_ours = name.startswith(PREFIX) and not _SERVICE_VARIABLES.fullmatch(name)
        if is_ours and name not in known:
            # Compared without the prefix, which would make all of them similar.
            endings = [each.removeprefix(PREFIX) for each in known]
            yield _unknown(name.removeprefix(PREFIX), endings, prefix=PREFIX)


def read_file(file: Path, fields: Collection[str]) -> list[SettingEntry]:
    """Read the values of a TOML file's table.

    Raises:
        ConfigError: the file cannot be read, or has unknown keys; similar names are suggested.
    """
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # not TOML, or not UTF-8
        raise ConfigError(f"{file}: is not TOML: {error}") from error
    table = document.get(FILE_TABLE)
    if not isinstance(table, dict):
        raise ConfigError(f"{file}: has no [{FILE_TABLE}] table")
    values = {key.replace("-", "_"): value for key, value in table.items()}
    if unknown := [_unknown(key, fields) for key in values if key not in fields]:
        raise ConfigError(f"{file}: {' '.join(unknown)}")
    return [SettingEntry(name, f"{file}: {name}", value) for name, value in values.items()]


def _unknown(name: str, known: Iterable[str], *, prefix: str = "") -> str:
    """Describe a name that is not among `known`, and suggest similar ones."""
    advice = suggest(name, known, prefix=prefix) or "`klineagent config show` lists all."
    return f"{prefix}{name} is not a setting; {advice}"
