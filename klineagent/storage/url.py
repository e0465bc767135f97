"""Store URLs, and the locations they name. Pure.

    clickhouse://user:password@host:9000/database    a server, native protocol
    clickhouse://host/?secure=1                      the same over TLS, port 9440
    chdb:///absolute/folder, chdb:relative/folder    the embedded engine
    memory:                                          nothing survives; for simulations

User, password and database are percent-decoded; a folder is taken literally.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from attrs import field, frozen

from klineagent.core.errors import ConfigError

DEFAULT_DATABASE = "market"
_PLAIN_PORT = 9000
_TLS_PORT = 9440
NATIVE_PORTS = f"{_PLAIN_PORT}, or {_TLS_PORT} with ?secure=1"
HTTP_PORTS = frozenset({8123, 8443})
"""ClickHouse's default ports for HTTP, which klineagent does not use."""
# The engine expands them when it reads a file, and takes ? for the start of options.
_FOLDER_WILDCARDS = frozenset("?*{}")


@frozen(kw_only=True)
class ServerLocation:
    """A ClickHouse server and the database on it."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    database: str
    secure: bool
    ca_file: str | None = None
    """CA certificates for the server's certificate, if not the system's."""
    label: str
    """The URL without the password."""


@frozen(kw_only=True)
class FolderLocation:
    """A folder of the embedded engine."""

    folder: Path

    @property
    def label(self) -> str:
        """The URL of the folder."""
        return f"chdb://{self.folder}"


@frozen
class MemoryLocation:
    """The memory of this process."""

    label: str = "memory:"


Location = ServerLocation | FolderLocation | MemoryLocation


def place(label: str) -> str:
    """Reduce a store's label to where its data are: without user, port and TLS."""
    match locate(label):
        case ServerLocation(host=host, database=database):
            return f"clickhouse://{host}/{database}"
        case other:
            return other.label


def masked(url: str) -> str:
    """Replace the password in `url`, so that it is safe to print; takes broken URLs as well."""
    # Up to the last @: in a broken URL the password may hold characters that are not escaped.
    return re.sub(r"(://[^:@/]*:).*@", r"\1***@", url, flags=re.DOTALL)


def locate(url: str) -> Location:
    """Parse a store's URL.

    Raises:
        ConfigError: the URL names no store; the message does not show the password.
    """
    scheme = url.partition(":")[0].lower()
    match scheme:
        case "clickhouse":
            return _server(url)
        case "chdb":
            return _folder(url)
        case "memory":
            return MemoryLocation()
    raise _unusable(url, "it must begin with clickhouse://, chdb: or memory:")


def _server(url: str) -> ServerLocation:
    try:
        parts = urlsplit(url)
        port = parts.port
        options = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
    except ValueError:
        # The error's text may quote a piece of the password.
        raise _unusable(url, "its port is invalid, or it is not escaped as a URL") from None
    if not parts.hostname or parts.fragment:
        raise _unusable(url, "expected clickhouse://user:password@host:port/database")
    secure = options.pop("secure", "0")
    if options or secure not in {"0", "1"}:
        raise _unusable(url, "the only option is secure=1 (or 0)")
    return ServerLocation(
        host=parts.hostname,
        port=port or (_TLS_PORT if secure == "1" else _PLAIN_PORT),
        user=unquote(parts.username or "default"),
        password=unquote(parts.password or ""),
        database=unquote(parts.path.strip("/")) or DEFAULT_DATABASE,
        secure=secure == "1",
        label=masked(url),
    )


def _folder(url: str) -> FolderLocation:
    path = url.partition(":")[2]
    if path.startswith("//"):
        path = path.removeprefix("//")
        if not path.startswith("/"):
            raise _unusable(url, "expected chdb:///absolute/folder or chdb:relative/folder")
    if not path:
        raise _unusable(url, "it names no folder")
    if _FOLDER_WILDCARDS & set(path):
        raise _unusable(url, "a folder's name cannot hold any of ? * { }")
    return FolderLocation(folder=Path(path).expanduser().absolute())


def _unusable(url: str, reason: str) -> ConfigError:
    return ConfigError(f"store {masked(url)!r} cannot be used: {reason}")
