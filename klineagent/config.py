"""Configuration: defaults, overridden by a TOML file, by the environment, by options.

typed-settings lists the fields, checks the file's keys and merges the layers. Every field has a
converter (`converters.py`) that is also its check; a layer applies it as it loads, because after
merging nobody knows any more under which name the user wrote a value.
"""

from __future__ import annotations

import enum
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, NamedTuple
from urllib.parse import urlsplit

import cattrs
from attrs import field, frozen
from attrs.converters import optional
from typed_settings import load_settings
from typed_settings.exceptions import InvalidOptionsError
from typed_settings.loaders import clean_settings
from typed_settings.types import LoadedSettings, LoaderMeta, OptionInfo, OptionList

from klineagent.bind import Bind
from klineagent.converters import (
    ANY_HOST,
    DAY_S,
    LOOPBACK,
    to_amount,
    to_byte_count,
    to_command_bind,
    to_count,
    to_duration,
    to_host,
    to_intervals,
    to_log_format,
    to_log_level,
    to_port,
    to_rest_url,
    to_seconds,
    to_status_bind,
    to_store_url,
    to_symbols,
    to_text,
    to_token,
    to_venue,
    to_ws_url,
    to_yes_or_no,
)
from klineagent.errors import ConfigError
from klineagent.kline import Interval
from klineagent.logs import LogFormat, LogLevel
from klineagent.market.venues import USDM, Venue
from klineagent.storage.location import FolderLocation, ServerLocation, locate, masked

FILE_TABLE = "klineagent"
_GIGA = 1024**3

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
# Options that are called otherwise than their field; they may be called by that as well.
SHORT_OPTIONS = {"lookback_s": "lookback", "grace_s": "grace"}


def _shown(url: str | None) -> str:
    """A URL in a repr, its password masked."""
    return repr(url and masked(url))


@frozen(kw_only=True)
class Config:
    """Everything that can be set. Times are seconds."""

    symbols: tuple[str, ...] = field(default=(), converter=to_symbols)
    """Symbols to record from the start; more can be added while it runs."""
    intervals: tuple[Interval, ...] = field(
        default=tuple(map(Interval, ("1m", "5m", "15m", "1h", "4h", "1d", "1w"))),
        converter=to_intervals,
    )
    """Intervals that adding a symbol adds."""
    # `Annotated` hides the attrs class, whose fields would be taken for nested settings.
    venue: Annotated[Venue, "by its name"] = field(default=USDM, converter=to_venue)
    """The market: usdm, coinm or spot."""
    ws_url: str | None = field(default=None, converter=optional(to_ws_url), repr=_shown)
    """Where the streams are, if not at the venue's own address."""
    rest_url: str | None = field(default=None, converter=optional(to_rest_url), repr=_shown)
    """Where the REST API is, if not at the venue's own address."""
    store: str = field(default="chdb:klineagent-data", converter=to_store_url, repr=_shown)
    """The database to write to."""
    ca_file: str | None = field(default=None, converter=optional(to_text))
    """A PEM file of authorities that vouch for the exchange's and the database's certificates."""
    command_bind: Bind = field(default=Bind(LOOPBACK, 9999), converter=to_command_bind)
    """HOST:PORT of the command server."""
    command_tls_cert: str | None = field(default=None, converter=optional(to_text))
    """The PEM file of the command server's certificate, for TLS; it may hold the key as well."""
    command_tls_key: str | None = field(default=None, converter=optional(to_text))
    """The PEM file of that certificate's key, if it is elsewhere."""
    status_bind: Bind = field(default=Bind(ANY_HOST, 9988), converter=to_status_bind)
    """HOST:PORT of the status server."""
    # No option: whoever lists the processes of a machine reads their options.
    token: str | None = field(default=None, converter=optional(to_token), repr=False)
    """What clients have to show."""
    token_file: str | None = field(default=None, converter=optional(to_text))
    """The file that holds it, if it is not in the environment or the configuration file."""
    allow_anonymous: bool = field(default=False, converter=to_yes_or_no)
    """Whether anyone may command who can reach the server, wherever it listens."""
    max_symbols: int = field(default=100, converter=to_count)
    """How many symbols this agent accepts."""
    register_ip: str | None = field(default=None, converter=optional(to_host))
    """The manager to register with; without one, the agent runs unmanaged."""
    register_port: int | None = field(default=None, converter=optional(to_port))
    """The manager's port."""
    agent_ip: str | None = field(default=None, converter=optional(to_host))
    """The address others reach this agent at, if not that of the interface that reaches out."""
    self_update_interval_s: float = field(default=60.0, converter=to_seconds)
    """How often this agent's row in table `agents` is written."""
    log_format: LogFormat = field(default=LogFormat.CONSOLE, converter=to_log_format)
    """How log lines look: console or json."""
    log_level: LogLevel = field(default=LogLevel.INFO, converter=to_log_level)
    """From where on lines are logged: debug, info, warning, error or critical."""
    flush_interval_s: float = field(default=1.0, converter=to_seconds)
    """How long a row may wait for company before it is written."""
    flush_rows: int = field(default=5_000, converter=to_count)
    """How many rows make a batch before that."""
    buffer_rows: int = field(default=200_000, converter=to_count)
    """How many rows may wait in memory while the database is away and the spool is full."""
    history: int = field(default=500, converter=to_amount)
    """How many candles before its start a new subscription has fetched; 0 for none."""
    lookback_s: float = field(default=86_400.0, converter=to_duration)
    """How far back the store is searched for holes at the start."""
    grace_s: float = field(default=5.0, converter=to_seconds)
    """How long after its close a candle may stay without its closing event."""
    updates: bool = field(default=False, converter=to_yes_or_no)
    """Whether every state of every candle is kept as well, in table `kline_updates`."""
    spool: str | None = field(default=None, converter=optional(to_text))
    """The folder for what the database cannot take, if not beside its own; "none" for no spool."""
    state: str | None = field(default=None, converter=optional(to_text))
    """The file that keeps what was asked for over HTTP, if not beside the data; "none" for none."""
    spool_limit: int = field(default=4 * _GIGA, converter=to_byte_count)
    """How large it may grow."""
    drain_timeout_s: float = field(default=3.0, converter=to_seconds)
    """How long stopping may take to write what is waiting."""

    @property
    def spool_folder(self) -> Path | None:
        """Where the spool is, if there is one: one for each database and venue."""
        if self.spool == "none":
            return None
        if self.spool is not None:
            return Path(self.spool).expanduser().absolute()
        return self._beside_the_data("spool")

    @property
    def state_file(self) -> Path | None:
        """Where the subscriptions are kept, if they are: one file for each database and venue."""
        if self.state == "none":
            return None
        if self.state is not None:
            return Path(self.state).expanduser().absolute()
        beside = self._beside_the_data("state")
        return beside and beside.with_name(f"{beside.name}.json")

    def _beside_the_data(self, what: str) -> Path | None:
        """A place of its own for each database and venue; None for one that is in memory."""
        match locate(self.store):
            case FolderLocation(folder=folder):
                return folder.with_name(f"{folder.name}-{what}-{self.venue.name}")
            case ServerLocation(host=host, port=port, database=database):
                name = re.sub(r"[^\w.-]", "_", f"{self.venue.name}-{host}-{port}-{database}")
                return Path(f"klineagent-{what}", name).absolute()
        return None

    def read_token(self) -> str | None:
        """What clients have to show, if anything, from wherever it is.

        Raises:
            ConfigError: its file cannot be read, or holds none.
        """
        if self.token_file is None:
            return self.token
        try:
            return to_token(Path(self.token_file).expanduser().read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"token_file: {self.token_file}: {error.strerror}") from error
        except ValueError as error:
            # Not UTF-8 either is no token; that error would quote a piece of it.
            reason = "it is not text" if isinstance(error, UnicodeDecodeError) else error
            raise ConfigError(f"token_file: {self.token_file}: {reason}") from None

    @property
    def effective_ws_url(self) -> str:
        """Where the streams are: the prefix before `/ws` and `/stream`."""
        own = self.venue.ws_url
        if self.ws_url is None:
            return own
        parts = urlsplit(self.ws_url)
        # The old agent's STREAM_URL was the bare host, which today confirms USD-M streams and
        # then stays silent.
        return own if parts.netloc == urlsplit(own).netloc and not parts.path else self.ws_url

    @property
    def effective_rest_url(self) -> str:
        """Where the REST API is."""
        return self.rest_url or self.venue.rest_url

    @property
    def manager(self) -> Bind | None:
        """The manager to register with, if there is one."""
        if self.register_ip is None or self.register_port is None:
            return None
        return Bind(self.register_ip, self.register_port)


def as_written(value: object) -> str:
    """A field's value as a user would write it."""
    match value:
        case Venue():
            return value.name
        case enum.Enum():
            return str(value.value)
        case tuple() if not isinstance(value, Bind):
            return ",".join(map(as_written, value))
        case bool():
            return str(value).lower()
        case int() | float():
            return _number_as_written(value)
    return str(value)


def _number_as_written(number: float) -> str:
    # Of numbers this large, floats are seconds and integers are bytes.
    unit, letter = (_GIGA, "G") if isinstance(number, int) else (DAY_S, "d")
    if number and number % unit == 0:
        return f"{number / unit:g}{letter}"
    return str(number) if isinstance(number, int) else f"{number:g}"


def option_names(field: str) -> list[str]:
    """The names of the options that set a field of `Config`; the first is the one that is told."""
    return [name for name in (SHORT_OPTIONS.get(field), field) if name]


def spelling(name: str) -> str:
    """An option as it is typed; symbols are arguments."""
    return "SYMBOL" if name == "symbols" else f"--{name.replace('_', '-')}"


def load_config(
    options: Mapping[str, object], environ: Mapping[str, str], file: Path | None
) -> Config:
    """Read the configuration; later sources win: defaults, `file`, `environ`, `options`.

    Args:
        options: what the command line gave, by the name of its option, `-` being `_`; None means
            it did not.
        environ: `KLINEAGENT_<FIELD>`, or the old agent's names; an empty variable is no variable.
        file: a TOML file with a table `[klineagent]`.

    Raises:
        ConfigError: one line that names what cannot be used and says what would be right.
    """
    return trace_config(options, environ, file)[0]


def trace_config(
    options: Mapping[str, object], environ: Mapping[str, str], file: Path | None
) -> tuple[Config, dict[str, str]]:
    """`load_config`, and where each field that does not have its default was set."""
    sources: dict[str, str] = {}
    config = load_settings(
        Config,
        [
            _Layer(lambda fields: _read_file(file, fields) if file else [], sources),
            _Layer(lambda fields: _read_environment(environ, fields), sources),
            _Layer(lambda fields: _read_options(options, fields), sources),
        ],
        converter=cattrs.Converter(prefer_attrib_converters=True),
    )
    _check_together(config)
    return config, sources


class _Entry(NamedTuple):
    """A value as a user wrote it, and the name the user knows it by."""

    field: str
    label: str
    value: object


@frozen
class _Layer:
    """A loader of typed-settings that converts what it loads."""

    read: Callable[[OptionList], Iterable[_Entry]]
    sources: dict[str, str]
    """The label of each field's entry; the layer that is loaded last has the last word."""

    def __call__(self, settings_cls: type, options: OptionList) -> LoadedSettings:
        """Load and convert; see `typed_settings.loaders.Loader`.

        Raises:
            ConfigError: a value cannot be used.
        """
        fields = {option.name: option for option in options}
        entries = list(self.read(options))
        values = {entry.field: _converted(fields[entry.field], entry) for entry in entries}
        self.sources.update({entry.field: entry.label for entry in entries})
        return LoadedSettings(values, LoaderMeta(self))


def _converted(option: OptionInfo, entry: _Entry) -> object:
    assert option.converter is not None, f"{option.name} has no converter"  # noqa: S101 - ours
    try:
        return option.converter(entry.value)
    except (ValueError, ConfigError) as error:
        raise ConfigError(f"{entry.label}: {error}") from error


def _read_options(options: Mapping[str, object], fields: OptionList) -> list[_Entry]:
    return [
        _Entry(each.name, spelling(name), value)
        for each in fields
        for name in option_names(each.name)
        if (value := options.get(name)) is not None
    ]


def _read_environment(environ: Mapping[str, str], fields: OptionList) -> list[_Entry]:
    entries = []
    for each in fields:
        for variable in (f"KLINEAGENT_{each.name.upper()}", OLD_VARIABLES.get(each.name, "")):
            if value := environ.get(variable, "").strip():
                entries.append(_Entry(each.name, variable, value))
                break
    return entries


def _read_file(file: Path, fields: OptionList) -> list[_Entry]:
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # not TOML, or not UTF-8
        raise ConfigError(f"{file}: is not TOML: {error}") from error
    table = document.get(FILE_TABLE)
    if not isinstance(table, dict):
        raise ConfigError(f"{file}: has no table [{FILE_TABLE}]")
    try:
        values = clean_settings(table, fields, file)
    except InvalidOptionsError as error:
        known = ", ".join(each.name for each in fields)
        raise ConfigError(f"{error}; known are {known}") from error
    return [_Entry(name, f"{file}: {name}", value) for name, value in values.items()]


def _check_together(config: Config) -> None:
    """Check what no field can know alone."""
    venue = config.venue
    if missing := [each for each in config.intervals if each not in venue.intervals]:
        names = ", ".join(map(str, missing))
        offered = ", ".join(str(each) for each in Interval if each in venue.intervals)
        raise ConfigError(
            f"intervals: {names} does not exist on {venue.name}; use some of {offered}"
        )
    if config.buffer_rows < config.flush_rows:
        raise ConfigError(
            f"buffer_rows: {config.buffer_rows} rows cannot hold a batch of {config.flush_rows},"
            " which is flush_rows"
        )
    if config.token and config.token_file:
        raise ConfigError("token and token_file: there can be only one")
    if config.command_tls_key and not config.command_tls_cert:
        raise ConfigError("command_tls_key needs command_tls_cert, the certificate it is for")
    if config.register_ip and not config.register_port:
        raise ConfigError("register_ip needs register_port, the port of the manager")
