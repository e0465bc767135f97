"""Where settings are written, the command line, environment and file; and their names there."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from typed_settings.types import OptionList

from klineagent.core.errors import ConfigError
from klineagent.core.suggestions import meant

FILE_TABLE = "klineagent"
PREFIX = "KLINEAGENT_"
# What the agent before this one was configured by; the new names win.
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
# Variables that are no settings: the file with the settings, and where clients find the agent.
_OTHER_VARIABLES = frozenset({f"{PREFIX}CONFIG", f"{PREFIX}AGENT"})
# Kubernetes makes these in every container beside a service called klineagent.
_SERVICE_VARIABLES = re.compile(rf"{PREFIX}(SERVICE_HOST|(SERVICE_)?PORT(_.+)?)")
# Options that are called otherwise than their field; they may be called by that as well.
SHORT_OPTIONS = {"lookback_s": "lookback", "grace_s": "grace"}


class SettingEntry(NamedTuple):
    """A value as a user wrote it, and the name the user knows it by."""

    field: str
    label: str
    value: object


def option_names(field: str) -> list[str]:
    """The names of the options that set a field of `Config`; the first is the one that is told."""
    return [name for name in (SHORT_OPTIONS.get(field), field) if name]


def spelling(name: str) -> str:
    """An option as it is typed; symbols are arguments."""
    return "SYMBOL" if name == "symbols" else f"--{name.replace('_', '-')}"


def variable(field: str) -> str:
    """The variable that sets a field of `Config`."""
    return f"{PREFIX}{field.upper()}"


def read_options(options: Mapping[str, object], fields: OptionList) -> list[SettingEntry]:
    """What the command line gave, by the name of its option; None means it did not."""
    return [
        SettingEntry(each.name, spelling(name), value)
        for each in fields
        for name in option_names(each.name)
        if (value := options.get(name)) is not None
    ]


def read_environment(environ: Mapping[str, str], fields: OptionList) -> list[SettingEntry]:
    """What variables say; an empty variable is no variable."""
    entries = []
    for each in fields:
        for name in (variable(each.name), OLD_VARIABLES.get(each.name, "")):
            if value := environ.get(name, "").strip():
                entries.append(SettingEntry(each.name, name, value))
                break
    return entries


def unknown_variables(environ: Collection[str], fields: Collection[str]) -> Iterator[str]:
    """A line for each variable that looks like one of ours and is none."""
    known = {variable(each) for each in fields} | _OTHER_VARIABLES
    for name in environ:
        is_ours = name.startswith(PREFIX) and not _SERVICE_VARIABLES.fullmatch(name)
        if is_ours and name not in known:
            # Without what all have in common, and what makes all alike.
            endings = [each.removeprefix(PREFIX) for each in known]
            yield _unknown(name.removeprefix(PREFIX), endings, prefix=PREFIX)


def read_file(file: Path, fields: OptionList) -> list[SettingEntry]:
    """What the table of a TOML file says.

    Raises:
        ConfigError: it cannot be read, or has keys that are no settings; with the nearest that are.
    """
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # not TOML, or not UTF-8
        raise ConfigError(f"{file}: is not TOML: {error}") from error
    table = document.get(FILE_TABLE)
    if not isinstance(table, dict):
        raise ConfigError(f"{file}: has no table [{FILE_TABLE}]")
    values = {key.replace("-", "_"): value for key, value in table.items()}
    known = [each.name for each in fields]
    if unknown := [_unknown(key, known) for key in values if key not in known]:
        raise ConfigError(f"{file}: {' '.join(unknown)}")
    return [SettingEntry(name, f"{file}: {name}", value) for name, value in values.items()]


def _unknown(name: str, known: Iterable[str], *, prefix: str = "") -> str:
    """What to tell of a name that is none of those `known`."""
    advice = meant(name, known, prefix=prefix) or "`klineagent config show` lists all."
    return f"{prefix}{name} is no setting; {advice}"
