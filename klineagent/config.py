"""Configuration: defaults, overridden by a TOML file, by the environment, by options.

typed-settings lists the fields, checks the file's keys and merges the layers. Every field has a
converter that is also its check; a layer applies it as it loads, because after merging nobody
knows any more under which name the user wrote a value.
"""

from __future__ import annotations

import enum
import math
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, NamedTuple, TypeVar
from urllib.parse import urlsplit

import cattrs
from attrs import field, frozen
from attrs.converters import optional
from typed_settings import load_settings
from typed_settings.exceptions import InvalidOptionsError
from typed_settings.loaders import clean_settings
from typed_settings.types import LoadedSettings, LoaderMeta, OptionInfo, OptionList

from klineagent.bind import Bind
from klineagent.errors import ConfigError
from klineagent.kline import Interval
from klineagent.logs import LogFormat
from klineagent.market.venues import USDM, VENUES, Venue
from klineagent.storage.location import FolderLocation, ServerLocation, locate

FILE_TABLE = "klineagent"
# Managers reach their agents from other machines.
ANY_HOST = "0.0.0.0"  # noqa: S104 - meant: see above
MAX_PORT = 65_535
_DAY_S = 86_400
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

_E = TypeVar("_E", bound=enum.Enum)


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"expected text, got {value!r}")
    return value.strip()


def _whole_number(value: object) -> int:
    try:
        return int(str(value))  # by way of str, which makes 1.5 and true as wrong as "abc"
    except ValueError:
        raise ValueError(f"expected a whole number, got {value!r}") from None


def _count(value: object) -> int:
    if (count := _whole_number(value)) < 1:
        raise ValueError(f"expected at least 1, got {count}")
    return count


def _port(value: object) -> int:
    if not 1 <= (port := _whole_number(value)) <= MAX_PORT:
        raise ValueError(f"expected a port from 1 to {MAX_PORT}, got {port}")
    return port


def _seconds(value: object) -> float:
    try:
        seconds = float(str(value))
    except ValueError:
        raise ValueError(f"expected a number of seconds, got {value!r}") from None
    if not 0 < seconds < math.inf:
        raise ValueError(f"expected more than 0 seconds, got {value}")
    return seconds


def _amount(value: object) -> int:
    if (amount := _whole_number(value)) < 0:
        raise ValueError(f"expected 0 or more, got {amount}")
    return amount


def _duration(value: object) -> float:
    """Seconds, or a number with s, m, h or d behind it."""
    text = str(value).strip()
    unit_s = {"s": 1, "m": 60, "h": 3600, "d": _DAY_S}.get(text[-1:], 0)
    # Checked again: so many days may be more seconds than a number holds.
    return _seconds(_seconds(text[:-1]) * unit_s) if unit_s else _seconds(text)


def _bytes(value: object) -> int:
    """Bytes, or a number with K, M, G or T behind it."""
    text = str(value).strip().upper().removesuffix("B")
    power = "KMGT".find(text[-1:]) + 1 if text else 0
    return _count(text[:-1]) * 1024**power if power else _count(text)


def _yes_or_no(value: object) -> bool:
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if (answer := words.get(str(value).strip().lower())) is None:
        raise ValueError(f"expected true or false, got {value!r}")
    return answer


def _names(value: object) -> list[str]:
    """Read a list, or a string with commas; blanks fall away, and what is there twice."""
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, list | tuple):
        raise ValueError(f"expected a list of names, got {value!r}")  # noqa: TRY004 - one kind
    return list(dict.fromkeys(name for each in value if (name := str(each).strip())))


def _symbols(value: object) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.upper() for name in _names(value)))


def _intervals(value: object) -> tuple[Interval, ...]:
    if not (names := _names(value)):
        raise ValueError("expected at least one interval")
    return tuple(_member(Interval, name) for name in names)


def _member(kind: type[_E], value: object) -> _E:
    """The member of `kind` with this value, or the member itself."""
    try:
        return kind(value)
    except ValueError:
        raise ValueError(
            f"expected {_one_of(each.value for each in kind)}, got {value!r}"
        ) from None


def _log_format(value: object) -> LogFormat:
    return _member(LogFormat, value)


def _venue(value: object) -> Venue:
    if isinstance(value, Venue):
        return value
    if venue := VENUES.get(str(value).strip().lower()):
        return venue
    raise ValueError(f"expected {_one_of(VENUES)}, got {value!r}")


def _host(value: object) -> str:
    """A host name or an IP address, IPv6 with or without its brackets."""
    host = _text(value)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if not re.fullmatch(r"[\w.-]+|[0-9a-fA-F:.]+(%\w+)?", host):
        raise ValueError(f"expected a host name or an IP address, got {value!r}")
    return host


def parse_bind(value: object) -> Bind:
    """Read `HOST:PORT`, `[IPV6]:PORT` or a port alone; port 0 lets the system choose."""
    if isinstance(value, Bind):
        return value
    host, _, port = str(value).strip().rpartition(":")
    if (":" in host and not host.startswith("[")) or not re.fullmatch(r"\d{1,5}", port, re.ASCII):
        raise ValueError(f"expected HOST:PORT or a port, got {value!r}")
    if int(port) > MAX_PORT:
        raise ValueError(f"expected a port up to {MAX_PORT}, got {port}")
    return Bind(_host(host) if host else ANY_HOST, int(port))


def _ws_url(value: object) -> str:
    # The prefix is wanted; people paste the whole address.
    return re.sub(r"/(ws|stream)$", "", _url(value, ("ws", "wss")))


def _rest_url(value: object) -> str:
    return _url(value, ("http", "https"))


def _url(value: object, schemes: tuple[str, ...]) -> str:
    url = _text(value).rstrip("/")
    try:
        parts = urlsplit(url)
        sound = parts.scheme in schemes and parts.hostname and (parts.port or True)
        (parts.hostname or "").encode("idna")
    except ValueError:  # not an address, not a port, or a name no resolver takes
        sound = False
    if not sound or parts.query or parts.fragment or re.search(r"\s", url):
        raise ValueError(
            f"expected {_one_of(f'{scheme}://HOST' for scheme in schemes)}, got {url!r}"
        )
    return url


def _store(value: object) -> str:
    url = _text(value)
    locate(url)
    return url


def _one_of(names: Iterable[str]) -> str:
    return "one of " + ", ".join(names)


@frozen(kw_only=True)
class Config:
    """Everything that can be set. Times are seconds."""

    symbols: tuple[str, ...] = field(default=(), converter=_symbols)
    """Symbols to record from the start; more can be added while it runs."""
    intervals: tuple[Interval, ...] = field(
        default=tuple(map(Interval, ("1m", "5m", "15m", "1h", "4h", "1d", "1w"))),
        converter=_intervals,
    )
    """Intervals that adding a symbol adds."""
    # `Annotated` hides the attrs class, whose fields would be taken for nested settings.
    venue: Annotated[Venue, "by its name"] = field(default=USDM, converter=_venue)
    """The market: usdm, coinm or spot."""
    ws_url: str | None = field(default=None, converter=optional(_ws_url))
    """Where the streams are, if not at the venue's own address."""
    rest_url: str | None = field(default=None, converter=optional(_rest_url))
    """Where the REST API is, if not at the venue's own address."""
    store: str = field(default="chdb:klineagent-data", converter=_store, repr=False)
    """The database to write to."""
    command_bind: Bind = field(default=Bind(ANY_HOST, 9999), converter=parse_bind)
    """HOST:PORT of the command server."""
    status_bind: Bind = field(default=Bind(ANY_HOST, 9988), converter=parse_bind)
    """HOST:PORT of the status server."""
    max_symbols: int = field(default=100, converter=_count)
    """How many symbols this agent accepts."""
    register_ip: str | None = field(default=None, converter=optional(_host))
    """The manager to register with; without one, the agent runs unmanaged."""
    register_port: int | None = field(default=None, converter=optional(_port))
    """The manager's port."""
    agent_ip: str | None = field(default=None, converter=optional(_host))
    """The address others reach this agent at, if not that of the interface that reaches out."""
    self_update_interval_s: float = field(default=60.0, converter=_seconds)
    """How often this agent's row in table `agents` is written."""
    log_format: LogFormat = field(default=LogFormat.CONSOLE, converter=_log_format)
    """How log lines look: console or json."""
    flush_interval_s: float = field(default=1.0, converter=_seconds)
    """How long a row may wait for company before it is written."""
    flush_rows: int = field(default=5_000, converter=_count)
    """How many rows make a batch before that."""
    buffer_rows: int = field(default=200_000, converter=_count)
    """How many rows may wait in memory while the database is away and the spool is full."""
    history: int = field(default=500, converter=_amount)
    """How many candles before its start a new subscription has fetched; 0 for none."""
    lookback_s: float = field(default=86_400.0, converter=_duration)
    """How far back the store is searched for holes at the start."""
    grace_s: float = field(default=5.0, converter=_seconds)
    """How long after its close a candle may stay without its closing event."""
    updates: bool = field(default=False, converter=_yes_or_no)
    """Whether every state of every candle is kept as well, in table `kline_updates`."""
    spool: str | None = field(default=None, converter=optional(_text))
    """The folder for what the database cannot take, if not beside its own; "none" for no spool."""
    spool_limit: int = field(default=4 * _GIGA, converter=_bytes)
    """How large it may grow."""
    drain_timeout_s: float = field(default=3.0, converter=_seconds)
    """How long stopping may take to write what is waiting."""

    @property
    def spool_folder(self) -> Path | None:
        """Where the spool is, if there is one: one for each database and venue."""
        if self.spool == "none":
            return None
        if self.spool is not None:
            return Path(self.spool).expanduser().absolute()
        match locate(self.store):
            case FolderLocation(folder=folder):
                return folder.with_name(f"{folder.name}-spool-{self.venue.name}")
            case ServerLocation(host=host, port=port, database=database):
                name = re.sub(r"[^\w.-]", "_", f"{self.venue.name}-{host}-{port}-{database}")
                return Path("klineagent-spool", name).absolute()
        return None

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
    unit, letter = (_GIGA, "G") if isinstance(number, int) else (_DAY_S, "d")
    if number and number % unit == 0:
        return f"{number / unit:g}{letter}"
    return str(number) if isinstance(number, int) else f"{number:g}"


def load_config(
    options: Mapping[str, object], environ: Mapping[str, str], file: Path | None
) -> Config:
    """Read the configuration; later sources win: defaults, `file`, `environ`, `options`.

    Args:
        options: what the command line gave, by field name; None means it did not.
        environ: `KLINEAGENT_<FIELD>`, or the old agent's names; an empty variable is no variable.
        file: a TOML file with a table `[klineagent]`.

    Raises:
        ConfigError: one line that names what cannot be used and says what would be right.
    """
    config = load_settings(
        Config,
        [
            _Layer(lambda fields: _read_file(file, fields) if file else []),
            _Layer(lambda fields: _read_environment(environ, fields)),
            _Layer(lambda fields: _read_options(options, fields)),
        ],
        converter=cattrs.Converter(prefer_attrib_converters=True),
    )
    _check_together(config)
    return config


class _Entry(NamedTuple):
    """A value as a user wrote it, and the name the user knows it by."""

    field: str
    label: str
    value: object


@frozen
class _Layer:
    """A loader of typed-settings that converts what it loads."""

    read: Callable[[OptionList], Iterable[_Entry]]

    def __call__(self, settings_cls: type, options: OptionList) -> LoadedSettings:
        """Load and convert; see `typed_settings.loaders.Loader`.

        Raises:
            ConfigError: a value cannot be used.
        """
        fields = {option.name: option for option in options}
        values = {
            entry.field: _converted(fields[entry.field], entry) for entry in self.read(options)
        }
        return LoadedSettings(values, LoaderMeta(self))


def _converted(option: OptionInfo, entry: _Entry) -> object:
    assert option.converter is not None, f"{option.name} has no converter"  # noqa: S101 - ours
    try:
        return option.converter(entry.value)
    except (ValueError, ConfigError) as error:
        raise ConfigError(f"{entry.label}: {error}") from error


def _read_options(options: Mapping[str, object], fields: OptionList) -> list[_Entry]:
    return [
        _Entry(each.name, f"--{each.name.replace('_', '-')}", value)
        for each in fields
        if (value := options.get(each.name)) is not None
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
    if config.register_ip and not config.register_port:
        raise ConfigError("register_ip needs register_port, the port of the manager")
