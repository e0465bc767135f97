"""Loads the configuration from its sources, and checks what depends on several fields."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

from attrs import fields_dict

from klineagent.config.converters import ANY_HOST, to_intervals, with_bare_default
from klineagent.config.model import DEFAULT_READ_BIND, Config, as_written
from klineagent.config.sources import OLD_VARIABLES, read_environment, read_file, read_options
from klineagent.core.address import Bind
from klineagent.core.errors import ConfigError
from klineagent.exchange.venues import USDM, Venue


def load_config(
    options: Mapping[str, object], environ: Mapping[str, str], file: Path | None
) -> Config:
    """Read the configuration; later sources win: defaults, `file`, `environ`, `options`.

    Of URLs by venue, they win for the venues that they name.

    Args:
        options: values of the command line by option, with `_` for `-`; None if not given.
        environ: `KLINEAGENT_<FIELD>`, or the old agent's names; empty variables are ignored.
        file: a TOML file with a `[klineagent]` table.

    Raises:
        ConfigError: a value cannot be used; one line that names it and says what is expected.
    """
    return trace_config(options, environ, file)[0]


def trace_config(
    options: Mapping[str, object], environ: Mapping[str, str], file: Path | None
) -> tuple[Config, dict[str, str]]:
    """Read the configuration like `load_config`; also return where each field was set."""
    settings = fields_dict(Config)
    entries = [
        *(read_file(file, settings) if file else []),
        *read_environment(environ, settings),
        *read_options(options, settings),
    ]
    # Bare URLs depend on the default venue that wins. Intervals come last, because they depend on
    # all venues that win; overridden ones may have been meant for others.
    entries.sort(key=lambda entry: (entry.field == "intervals") - (entry.field == "venue"))
    values: dict[str, Any] = {}
    labels: dict[str, dict[str, str]] = {}
    for entry in entries:
        convert: Any = settings[entry.field].converter
        if entry is entries[-1] and entry.field == "intervals":
            convert = partial(to_intervals, venues=_venues_of(values))
        try:
            # A value that another source overrides is checked, too.
            value = convert(entry.value)
            if isinstance(value, dict):
                value = with_bare_default(value, values.get("venue", USDM))
        except (ValueError, ConfigError) as error:
            raise ConfigError(f"{entry.label}: {error}") from error
        if isinstance(value, dict):
            labels.setdefault(entry.field, {}).update(dict.fromkeys(value, entry.label))
            value = {**values.get(entry.field, {}), **value}
        else:
            labels[entry.field] = {"": entry.label}
        values[entry.field] = value
    sources = {name: ", ".join(dict.fromkeys(some.values())) for name, some in labels.items()}
    config = Config(**values)
    _check_together(config, sources)
    return config, sources


def _venues_of(values: Mapping[str, Any]) -> tuple[Venue, ...]:
    """Return the venues from which `values` of fields record."""
    given = {name: values[name] for name in ("venue", "symbols") if name in values}
    return tuple(Config(**given).symbols_by_venue)


def check_symbols(config: Config) -> None:
    """Check the number of symbols, and that each venue has intervals to record.

    Raises:
        ConfigError: there are more than `max_symbols`, or a venue has none of the intervals.
    """
    symbols = sum(map(len, config.symbols_by_venue.values()))
    if symbols > config.max_symbols:
        raise ConfigError(f"symbols: {symbols} exceed max_symbols, which is {config.max_symbols}")
    for venue, named in config.symbols_by_venue.items():
        if named and not venue.intervals & {*config.intervals}:
            wanted = as_written(config.intervals)
            raise ConfigError(f"intervals: {venue.name} has none of {wanted}")


def _check_together(config: Config, sources: Mapping[str, str]) -> None:
    """Check fields against each other; `sources` says where they were set."""
    check_symbols(config)
    if config.buffer_rows < config.flush_rows:
        raise ConfigError(
            f"buffer_rows: {config.buffer_rows} is less than flush_rows, which is"
            f" {config.flush_rows}"
        )
    if config.token and config.token_file:
        raise ConfigError("token and token_file: set only one of them")
    if config.read_token and config.read_token_file:
        raise ConfigError("read_token and read_token_file: set only one of them")
    if config.command_tls_key and not config.command_tls_cert:
        raise ConfigError("command_tls_key needs command_tls_cert, its certificate")
    if config.register_ip and not config.register_port:
        raise ConfigError("register_ip needs register_port, the fleet manager's port")
    # To the old agent a port alone meant that there is no fleet manager.
    is_old = sources.get("register_port") == OLD_VARIABLES["register_port"]
    if config.register_port and not config.register_ip and not is_old:
        raise ConfigError("register_port needs register_ip, the fleet manager's address")
    binds = {"command_bind": config.command_bind, "status_bind": config.status_bind}
    # On the default address there is no read server where another has its port.
    if config.read_bind is not None and config.read_bind is not DEFAULT_READ_BIND:
        binds["read_bind"] = config.read_bind
    for (one, bind), (other, beside) in combinations(binds.items(), 2):
        _check_binds(one, bind, other, beside)


def _check_binds(name: str, one: Bind, other_name: str, other: Bind) -> None:
    hosts = {one.host, other.host}
    one_address = len(hosts) == 1 or (ANY_HOST in hosts and ":" not in "".join(hosts))
    if one_address and one.port == other.port != 0:
        raise ConfigError(f"{name} and {other_name}: both have port {one.port}")
