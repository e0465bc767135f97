"""The configuration: defaults, overridden by a TOML file, the environment and options.

`sources.py` reads the values; each field has a converter (`converters.py`) that also validates. The
loader calls it for each value, because `Config` does not know the name under which the user wrote
it; `Config` then calls it once more, so a converter must accept what it returns.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from attrs import evolve, field, frozen
from attrs.converters import optional

from klineagent.config.converters import (
    ANY_HOST,
    DAY_S,
    LOOPBACK,
    to_amount,
    to_byte_count,
    to_command_bind,
    to_count,
    to_grace,
    to_host,
    to_intervals,
    to_log_format,
    to_log_level,
    to_lookback,
    to_port,
    to_read_bind,
    to_rest_urls,
    to_seconds,
    to_status_bind,
    to_store_url,
    to_symbols,
    to_text,
    to_token,
    to_venue,
    to_ws_urls,
    to_yes_or_no,
)
from klineagent.core.address import Bind
from klineagent.core.errors import ConfigError
from klineagent.core.interval import Interval
from klineagent.exchange.venues import USDM, Venue, split_name
from klineagent.process.logs import LogFormat, LogLevel
from klineagent.storage.url import FolderLocation, ServerLocation, locate, masked

_GIGA = 1024**3
DEFAULT_READ_BIND = Bind(LOOPBACK, 9977)


def _shown(value: object) -> str:
    """Show a URL, or URLs by venue, in a repr."""
    return repr(value and as_shown(value))


@frozen(kw_only=True)
class Config:
    """All settings of an agent. Times are in seconds."""

    symbols: tuple[str, ...] = field(default=(), converter=to_symbols)
    """Symbols to record from the start, as `SYMBOL` or `venue:SYMBOL`; more can be added while the
    agent runs."""
    intervals: tuple[Interval, ...] = field(
        default=tuple(map(Interval, ("1m", "5m", "15m", "1h", "4h", "1d", "1w"))),
        converter=to_intervals,
    )
    """Intervals to record of each symbol; a venue that lacks some of them records the others."""
    venue: Venue = field(default=USDM, converter=to_venue)
    """The default venue, that of symbols which do not name theirs: usdm, coinm or spot."""
    # Without hashes: dictionaries have none. They count when configurations are compared.
    ws_url: Mapping[str, str] | None = field(
        default=None, converter=optional(to_ws_urls), repr=_shown, hash=False
    )
    """The prefixes of websocket URLs by venue, if not the venues' own; "" is the default venue."""
    rest_url: Mapping[str, str] | None = field(
        default=None, converter=optional(to_rest_urls), repr=_shown, hash=False
    )
    """The REST APIs' URLs by venue, if not the venues' own; "" is the default venue."""
    archive_url: str | None = field(default=None, converter=optional(to_text))
    """The URL or folder of the archive that jobs import from, if not the exchange's own."""
    store: str = field(default="chdb:klineagent-data", converter=to_store_url, repr=_shown)
    """The database to write to."""
    ca_file: str | None = field(default=None, converter=optional(to_text))
    """PEM file of CA certificates for the exchange and the database, if not the system's."""
    command_bind: Bind = field(default=Bind(LOOPBACK, 9999), converter=to_command_bind)
    """HOST:PORT of the command API."""
    command_tls_cert: str | None = field(default=None, converter=optional(to_text))
    """PEM file of the command API's certificate, for TLS; it may hold the key as well."""
    command_tls_key: str | None = field(default=None, converter=optional(to_text))
    """PEM file of that certificate's key, if separate."""
    status_bind: Bind = field(default=Bind(ANY_HOST, 9988), converter=to_status_bind)
    """HOST:PORT of the status API."""
    read_bind: Bind | None = field(default=DEFAULT_READ_BIND, converter=to_read_bind)
    """HOST:PORT of the read API, or none; where the default one is taken, there is none."""
    read_token: str | None = field(default=None, converter=optional(to_token), repr=False)
    """The bearer token with which clients may read, and command nothing."""
    read_token_file: str | None = field(default=None, converter=optional(to_text))
    """The file that holds it, if it is not in the environment or configuration file."""
    forward: bool = field(default=False, converter=to_yes_or_no)
    """Whether the read API asks the exchange what it cannot answer."""
    # No option: options show in the machine's list of processes.
    token: str | None = field(default=None, converter=optional(to_token), repr=False)
    """The bearer token clients must send."""
    token_file: str | None = field(default=None, converter=optional(to_text))
    """The file that holds the token, if it is not in the environment or configuration file."""
    allow_anonymous: bool = field(default=False, converter=to_yes_or_no)
    """Whether commands need no token even if other machines can reach the command API."""
    max_symbols: int = field(default=100, converter=to_count)
    """The most symbols this agent records."""
    register_ip: str | None = field(default=None, converter=optional(to_host))
    """The fleet manager to register with; without one, the agent runs on its own."""
    register_port: int | None = field(default=None, converter=optional(to_port))
    """The fleet manager's port."""
    agent_ip: str | None = field(default=None, converter=optional(to_host))
    """The address other machines reach this agent at, if not that of the default route."""
    self_update_interval_s: float = field(default=60.0, converter=to_seconds)
    """The interval between heartbeats in table `agents`."""
    log_format: LogFormat = field(default=LogFormat.CONSOLE, converter=to_log_format)
    """The log format: console or json."""
    log_level: LogLevel = field(default=LogLevel.INFO, converter=to_log_level)
    """The least severe level to log: debug, info, warning, error or critical."""
    flush_interval_s: float = field(default=1.0, converter=to_seconds)
    """How long a row may wait for its batch to fill."""
    flush_rows: int = field(default=5_000, converter=to_count)
    """The most rows in a batch; a full batch is written at once."""
    buffer_rows: int = field(default=200_000, converter=to_count)
    """The most rows in memory while the database is away and the spool is full."""
    history: int = field(default=500, converter=to_amount)
    """How many past candles are fetched for each new series; 0 for none."""
    lookback_s: float = field(default=86_400.0, converter=to_lookback)
    """How far back the store is searched for gaps at the start."""
    grace_s: float = field(default=5.0, converter=to_grace)
    """How long to wait for a candle's closing event before the candle is fetched."""
    updates: bool = field(default=False, converter=to_yes_or_no)
    """Whether every state of every candle is also kept, in table `kline_updates`."""
    spool: str | None = field(default=None, converter=optional(to_text))
    """The folder for rows the database cannot take, if not beside the data; "none" for none."""
    state: str | None = field(default=None, converter=optional(to_text))
    """The file for subscriptions made over HTTP, if not beside the data; "none" for none."""
    spool_limit: int = field(default=4 * _GIGA, converter=to_byte_count)
    """The largest size of the spool, in bytes."""
    drain_timeout_s: float = field(default=3.0, converter=to_seconds)
    """How long stopping may take to write waiting rows."""

    @property
    def symbols_by_venue(self) -> Mapping[Venue, tuple[str, ...]]:
        """The symbols of each venue that records from the start, the default venue first."""
        found: dict[Venue, dict[str, None]] = {self.venue: {}}
        for name in self.symbols:
            venue, symbol = split_name(name, self.venue)
            found.setdefault(venue, {})[symbol] = None
        return {venue: tuple(symbols) for venue, symbols in found.items()}

    @property
    def spool_folder(self) -> Path | None:
        """The spool's folder, one per database and default venue; None without a spool."""
        if self.spool == "none":
            return None
        if self.spool is not None:
            return Path(self.spool).expanduser().absolute()
        return self._beside_the_data("spool")

    @property
    def state_file(self) -> Path | None:
        """The subscriptions' file, one per database and default venue; None if not kept."""
        if self.state == "none":
            return None
        if self.state is not None:
            return Path(self.state).expanduser().absolute()
        beside = self._beside_the_data("state")
        return beside and beside.with_name(f"{beside.name}.json")

    @property
    def earlier_spools(self) -> list[Path]:
        """The spools of agents that recorded venues named here for themselves, as far as known."""
        if self.spool is not None:
            return []
        return [path for each in self._for_each_other() if (path := each.spool_folder)]

    @property
    def earlier_states(self) -> Mapping[Venue, Path]:
        """Like `earlier_spools`, the subscriptions' files."""
        if self.state is not None:
            return {}
        return {each.venue: path for each in self._for_each_other() if (path := each.state_file)}

    def _for_each_other(self) -> list[Config]:
        """Return the configurations of agents for one of the venues named here each."""
        others = [venue for venue in self.symbols_by_venue if venue != self.venue]
        return [evolve(self, venue=venue, symbols=()) for venue in others]

    def _beside_the_data(self, what: str) -> Path | None:
        """Return a path beside the data, one per database and default venue.

        None for a store in memory.
        """
        match locate(self.store):
            case FolderLocation(folder=folder):
                return folder.with_name(f"{folder.name}-{what}-{self.venue.name}")
            case ServerLocation(host=host, port=port, database=database):
                name = re.sub(r"[^\w.-]", "_", f"{self.venue.name}-{host}-{port}-{database}")
                return Path(f"klineagent-{what}", name).absolute()
        return None

    def command_token(self) -> str | None:
        """Return the token of commands, from its file if there is one; None if there is none.

        Raises:
            ConfigError: the file cannot be read, or holds no token.
        """
        return self.token if self.token_file is None else _token_in("token_file", self.token_file)

    def reading_token(self) -> str | None:
        """Return the token of the read API likewise."""
        if self.read_token_file is None:
            return self.read_token
        return _token_in("read_token_file", self.read_token_file)

    def ws_url_of(self, venue: Venue) -> str:
        """Return the prefix of the venue's websocket URLs, without `/ws` and `/stream`."""
        own, given = venue.ws_url, self._given(self.ws_url, venue)
        parts = urlsplit(given or own)
        # The old agent's STREAM_URL was the bare host, which today acknowledges USD-M streams and
        # then sends nothing.
        is_bare_host = parts.netloc == urlsplit(own).netloc and not parts.path
        return own if given is None or is_bare_host else given

    def rest_url_of(self, venue: Venue) -> str:
        """Return the venue's REST URL."""
        return self._given(self.rest_url, venue) or venue.rest_url

    def _given(self, urls: Mapping[str, str] | None, venue: Venue) -> str | None:
        bare = (urls or {}).get("") if venue == self.venue else None
        return (urls or {}).get(venue.name, bare)

    @property
    def fleet_manager(self) -> Bind | None:
        """The fleet manager to register with, if there is one."""
        if self.register_ip is None or self.register_port is None:
            return None
        return Bind(self.register_ip, self.register_port)


def _token_in(name: str, file: str) -> str:
    try:
        return to_token(Path(file).expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{name}: {file}: {error.strerror}") from error
    except ValueError as error:
        # A UnicodeDecodeError would quote a piece of the token.
        reason = "it is not text" if isinstance(error, UnicodeDecodeError) else error
        raise ConfigError(f"{name}: {file}: {reason}") from None


def as_written(value: object) -> str:
    """Format a field's value as a user would write it."""
    if isinstance(value, dict):
        value = tuple(f"{key}={each}" if key else each for key, each in value.items())
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


def as_shown(value: object) -> str:
    """Format a field's value like `as_written`, with the passwords of URLs masked."""
    if isinstance(value, dict):  # each by itself: a mask reaches up to the last @
        return as_written({key: masked(url) for key, url in value.items()})
    return masked(as_written(value))


def _number_as_written(number: float) -> str:
    # Among large numbers, floats are seconds and integers are bytes.
    unit, letter = (_GIGA, "G") if isinstance(number, int) else (DAY_S, "d")
    if number and number % unit == 0:
        return f"{number / unit:g}{letter}"
    return str(number) if isinstance(number, int) else f"{number:g}"
