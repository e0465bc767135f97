"""Converters of settings: from what a user may write to a field's type. Pure.

They take values of a TOML file as well as text from the environment and options, and raise a
`ValueError` that says what was expected.
"""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Callable, Iterable, Mapping
from ipaddress import ip_address
from typing import TypeVar
from urllib.parse import urlsplit

from klineagent.core.address import Bind
from klineagent.core.interval import Interval
from klineagent.exchange.venues import Venue, venue_named
from klineagent.process.logs import LogFormat, LogLevel
from klineagent.storage.url import locate, masked

# Health is open to other machines, for fleet managers ping agents; commands are not.
ANY_HOST = "0.0.0.0"  # noqa: S104 - meant: see above
LOOPBACK = "127.0.0.1"
MAX_PORT = 65_535
NAME_LENGTH = 253
DAY_S = 86_400
# Clients can try as many tokens as the server answers; one of this length cannot be guessed.
TOKEN_LENGTH = 16
WILDCARDS = frozenset("*?[")
"""Characters that make a name a pattern; no symbol has any of them."""
# What the exchange's REST API accepts as a symbol, in any script.
_SYMBOL = re.compile(r"[\w.-]{1,50}")

# The search for due candles takes time that grows with its square.
MAX_GRACE_S = 600
# Twenty years: no venue has older candles.
MAX_LOOKBACK_DAYS = 7300

_E = TypeVar("_E", bound=enum.Enum)


def to_text(value: object) -> str:
    """Convert to text that is not blank."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"expected text, got {value!r}")
    return value.strip()


def _whole_number(value: object) -> int:
    try:
        return int(str(value))  # through str, so that 1.5 and true fail like "abc"
    except ValueError:
        raise ValueError(f"expected a whole number, got {value!r}") from None


def to_count(value: object) -> int:
    """Convert to a whole number of at least 1."""
    if (count := _whole_number(value)) < 1:
        raise ValueError(f"expected at least 1, got {count}")
    return count


def to_port(value: object) -> int:
    """Convert to a port from 1 to 65535."""
    if not 1 <= (port := _whole_number(value)) <= MAX_PORT:
        raise ValueError(f"expected a port from 1 to {MAX_PORT}, got {port}")
    return port


def to_seconds(value: object) -> float:
    """Convert to seconds, more than 0."""
    try:
        seconds = float(str(value))
    except ValueError:
        raise ValueError(f"expected a number of seconds, got {value!r}") from None
    return _positive(seconds, value)


def _positive(seconds: float, value: object) -> float:
    """Check `seconds`, which was written as `value`."""
    if not 0 < seconds < math.inf:
        raise ValueError(f"expected more than 0 seconds, got {value!r}")
    return seconds


def to_amount(value: object) -> int:
    """Convert to a whole number of at least 0."""
    if (amount := _whole_number(value)) < 0:
        raise ValueError(f"expected 0 or more, got {amount}")
    return amount


def to_grace(value: object) -> float:
    """Convert to seconds, up to ten minutes."""
    if (seconds := to_seconds(value)) > MAX_GRACE_S:
        raise ValueError(f"expected at most {MAX_GRACE_S} seconds, got {value}")
    return seconds


def to_duration(value: object) -> float:
    """Convert seconds, or a number followed by s, m, h or d, to seconds."""
    text = str(value).strip()
    unit_s = {"s": 1, "m": 60, "h": 3600, "d": DAY_S}.get(text[-1:])
    try:
        number = float(text[:-1] if unit_s else text)
    except ValueError:
        raise ValueError(
            f"expected seconds, or a number followed by s, m, h or d, got {value!r}"
        ) from None
    # Checked after multiplying: so many days may overflow to infinity.
    return _positive(number * (unit_s or 1), value)


def to_lookback(value: object) -> float:
    """Convert like `to_duration`, up to twenty years."""
    if (seconds := to_duration(value)) > MAX_LOOKBACK_DAYS * DAY_S:
        raise ValueError(f"expected at most {MAX_LOOKBACK_DAYS} days, got {value!r}")
    return seconds


def to_byte_count(value: object) -> int:
    """Convert bytes, or a whole number followed by K, M, G or T, to bytes."""
    text = str(value).strip().upper().removesuffix("B")
    power = "KMGT".find(text[-1:]) + 1 if text else 0
    try:
        number = int(text[:-1] if power else text)
    except ValueError:
        raise ValueError(
            f"expected bytes, or a whole number followed by K, M, G or T, got {value!r}"
        ) from None
    if number < 1:
        raise ValueError(f"expected at least 1, got {value!r}")
    return number << 10 * power


def to_yes_or_no(value: object) -> bool:
    """Convert true, yes or 1, or false, no or 0, to a boolean."""
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if (answer := words.get(str(value).strip().lower())) is None:
        raise ValueError(f"expected true or false, got {value!r}")
    return answer


def _names(value: object) -> list[str]:
    """Read a list, or a string with commas; drop blanks and duplicates."""
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, list | tuple):
        raise ValueError(f"expected a list of names, got {value!r}")  # noqa: TRY004 - one kind
    if others := [each for each in value if not isinstance(each, str | Interval)]:
        raise ValueError(f"expected names in quotes, got {others[0]!r}")
    names = list(dict.fromkeys(name for each in value if (name := str(each).strip())))
    if unprintable := [name for name in names if not name.isprintable()]:
        raise ValueError(f"expected names of one line, got {unprintable[0]!r}")
    return names


def to_symbols(value: object) -> tuple[str, ...]:
    """Convert to symbols in capitals, without duplicates; there may be none.

    A symbol may carry its venue: `spot:BTCUSDT`.
    """
    return tuple(dict.fromkeys(map(to_symbol, _names(value))))


def to_symbol(name: str) -> str:
    """Convert to a symbol in capitals, after its venue if it has one; it may not exist."""
    venue, colon, name = name.rpartition(":")
    return (to_venue(venue).name if colon else "") + colon + _bare_symbol(name.strip())


def _bare_symbol(name: str) -> str:
    if name in {each.value for each in Interval}:
        raise ValueError(f"{name} is an interval, not a symbol")
    if WILDCARDS & set(name):
        raise ValueError(f"{name} is a pattern; add patterns with `klineagent add`")
    if not _SYMBOL.fullmatch(name):
        raise ValueError(f"{name} cannot be a symbol: expected letters, digits, '_', '-' and '.'")
    return name.upper()


def to_intervals(value: object, venues: Iterable[Venue] = ()) -> tuple[Interval, ...]:
    """Convert to at least one interval, of those that some of `venues` has; without any, of all."""
    if not (names := _names(value)):
        raise ValueError("expected at least one interval")
    venues = tuple(venues)
    known = frozenset().union(*(each.intervals for each in venues)) if venues else set(Interval)
    offered = {each.value: each for each in Interval if each in known}
    if unknown := [name for name in names if name not in offered]:
        where = f" on {' or '.join(each.name for each in venues)}" if venues else ""
        raise ValueError(
            f"there is no {', '.join(unknown)}{where}; use some of {', '.join(offered)}"
        )
    return tuple(offered[name] for name in names)


def _member(kind: type[_E], value: object) -> _E:
    """Convert a value, or the member itself, to a member of `kind`."""
    try:
        return kind(value)
    except ValueError:
        raise ValueError(
            f"expected {_one_of(each.value for each in kind)}, got {value!r}"
        ) from None


def to_log_format(value: object) -> LogFormat:
    """Convert the name of a log format."""
    return _member(LogFormat, value)


def to_log_level(value: object) -> LogLevel:
    """Convert the name of a log level, in any case."""
    return _member(LogLevel, value.lower() if isinstance(value, str) else value)


def to_venue(value: object) -> Venue:
    """Convert the name of a venue."""
    return value if isinstance(value, Venue) else venue_named(str(value))


def to_host(value: object) -> str:
    """Convert to a host name or an IP address; IPv6 may be in brackets."""
    host = to_text(value)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if not (_is_address(host) or _is_name(host)):
        raise ValueError(f"expected a host name or an IP address, got {masked(host)!r}")
    return host


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return not re.search(r"\s", host)  # ip_address accepts blanks in a zone


def _is_name(host: str) -> bool:
    """Return whether `host` can be a host name; one that ends in a number counts as an address."""
    labels = host.removesuffix(".").split(".")
    fits = len(host) <= NAME_LENGTH and not labels[-1].isdecimal()
    return fits and all(re.fullmatch(r"\w([\w-]{0,61}\w)?", label) for label in labels)


def to_command_bind(value: object) -> Bind:
    """Convert the command API's address; a port alone means loopback."""
    return parse_bind(value, host=LOOPBACK)


def to_status_bind(value: object) -> Bind:
    """Convert the status API's address; a port alone means all interfaces."""
    return parse_bind(value, host=ANY_HOST)


def to_read_bind(value: object) -> Bind | None:
    """Convert the read API's address; a port alone means loopback, and none means no such API."""
    is_none = value is None or str(value).strip().lower() == "none"
    return None if is_none else parse_bind(value, host=LOOPBACK)


def parse_bind(value: object, *, host: str) -> Bind:
    """Read `HOST:PORT`, `[IPV6]:PORT`, or a port alone, to which `host` is added.

    Port 0 lets the system choose.
    """
    if isinstance(value, Bind):
        return value
    name, _, port = str(value).strip().rpartition(":")
    if (":" in name and not name.startswith("[")) or not re.fullmatch(r"\d{1,5}", port, re.ASCII):
        raise ValueError(f"expected HOST:PORT or a port, got {value!r}")
    if int(port) > MAX_PORT:
        raise ValueError(f"expected a port up to {MAX_PORT}, got {port}")
    return Bind(to_host(name) if name else host, int(port))


def to_token(value: object) -> str:
    """Convert to a bearer token; errors do not show it."""
    token = value.strip() if isinstance(value, str) else ""
    if not re.fullmatch(r"[\w.~+/-]+=*", token, re.ASCII) or len(token) < TOKEN_LENGTH:
        raise ValueError(
            f"expected at least {TOKEN_LENGTH} letters, digits and -._~+/ without blanks;"
            " `openssl rand -hex 32` makes a good one"
        )
    return token


def to_ws_urls(value: object) -> Mapping[str, str]:
    """Convert to prefixes of stream URLs by venue; see `_by_venue`."""
    return _by_venue(value, to_ws_url)


def to_rest_urls(value: object) -> Mapping[str, str]:
    """Convert to REST URLs by venue; see `_by_venue`."""
    return _by_venue(value, to_rest_url)


def _by_venue(value: object, convert: Callable[[object], str]) -> Mapping[str, str]:
    """Read `URL` or `VENUE=URL`, or several of them with commas, or a table.

    The result maps names of venues to URLs; the default venue's name is empty.
    """
    if isinstance(value, Mapping):
        pairs = [(str(name), url) for name, url in value.items()]
    else:
        given = value if isinstance(value, list | tuple) else [value]
        texts = [text for each in given for text in str(each).split(",")]
        # A URL may hold "=", but only after its scheme.
        found = [re.match(r"\s*(?:(\w+)=)?(.*)", each, re.DOTALL) for each in texts]
        pairs = [(each[1] or "", each[2]) for each in found if each is not None]
    urls: dict[str, str] = {}
    for name, url in pairs:
        venue = to_venue(name).name if name else ""
        if venue in urls:
            raise ValueError(f"{venue or 'the default venue'} has two URLs")
        urls[venue] = convert(url)
    return urls


def with_bare_default(urls: Mapping[str, str], default: Venue) -> Mapping[str, str]:
    """Give the URL of the `default` venue the empty name, if it has the venue's.

    Raises:
        ValueError: there is one of each name.
    """
    if "" in urls and default.name in urls:
        raise ValueError(f"{default.name} has two URLs")
    return {"" if name == default.name else name: url for name, url in urls.items()}


def to_ws_url(value: object) -> str:
    """Convert to the prefix of stream URLs, without `/ws` or `/stream`."""
    # People paste the whole URL.
    return re.sub(r"/(ws|stream)$", "", _url(value, ("ws", "wss")))


def to_rest_url(value: object) -> str:
    """Convert to a REST URL."""
    return _url(value, ("http", "https"))


def _url(value: object, schemes: tuple[str, ...]) -> str:
    url = to_text(value).rstrip("/")
    try:
        parts = urlsplit(url)
        sound = parts.scheme in schemes and parts.hostname and (parts.port or True)
        (parts.hostname or "").encode("idna")
    except ValueError:  # no URL, no port, or a name no resolver accepts
        sound = False
    if not sound or parts.query or parts.fragment or re.search(r"\s", url):
        raise ValueError(
            f"expected {_one_of(f'{scheme}://HOST' for scheme in schemes)}, got {masked(url)!r}"
        )
    return url


def to_store_url(value: object) -> str:
    """Convert to a valid store URL."""
    url = to_text(value)
    locate(url)
    return url


def _one_of(names: Iterable[str]) -> str:
    return "one of " + ", ".join(names)
