"""Access to the servers, as configured: their guards, and TLS of the command server."""

from __future__ import annotations

import ssl

import structlog

from klineagent.api.guard import OPEN_PATHS, Guard, is_loopback
from klineagent.config.converters import LOOPBACK
from klineagent.config.model import Config
from klineagent.core.address import Bind
from klineagent.core.errors import ConfigError

log = structlog.get_logger()


def command_guard(config: Config) -> Guard:
    """Make the guard of the command server.

    Raises:
        ConfigError: other machines could send commands without a token, and `allow_anonymous` is
            not set.
    """
    reading = config.reading_token()
    guard = Guard(
        token=_token(config),
        reading_token=None if reading is None else reading.encode(),
        has_page=True,
        is_local=is_loopback(config.command_bind.host),
    )
    if guard.token is None and not guard.is_local:
        if not config.allow_anonymous:
            raise ConfigError(
                f"command_bind: other machines can reach {config.command_bind}: set a token"
                " (--token-file or KLINEAGENT_TOKEN), listen on 127.0.0.1, or use --allow-anonymous"
            )
        log.warning("anonymous_allowed", command=str(config.command_bind))
    if (
        config.fleet_manager is not None
        and guard.is_local
        and not is_loopback(config.fleet_manager.host)
    ):
        hint = "the command API listens on loopback only; set --command-bind"
        log.warning("manager_cannot_command", manager=str(config.fleet_manager), hint=hint)
    return guard


def status_guard(config: Config) -> Guard:
    """Make the guard of the status server; without a token, only the open paths are answered."""
    is_local = is_loopback(config.status_bind.host)
    return Guard(
        token=_token(config),
        open_paths=OPEN_PATHS,
        is_local=is_local,
        is_closed=not is_local and not config.allow_anonymous,
    )


def read_guard(config: Config) -> Guard:
    """Make the guard of the read server, if there is one; it takes the token of commands, too.

    Raises:
        ConfigError: other machines could read without a token, and `allow_anonymous` is not set.
    """
    bind = config.read_bind or Bind(LOOPBACK, 0)
    token, commanding = config.reading_token(), _token(config)
    guard = Guard(
        token=commanding if token is None else token.encode(),
        other_token=commanding,
        takes_passwords=True,
        is_local=is_loopback(bind.host),
    )
    if guard.token is None and not guard.is_local and not config.allow_anonymous:
        raise ConfigError(
            f"read_bind: other machines can reach {bind}: set a token (--read-token-file or"
            " KLINEAGENT_READ_TOKEN), listen on 127.0.0.1, or use --allow-anonymous"
        )
    return guard


def command_tls(config: Config) -> ssl.SSLContext | None:
    """Make the TLS context of the command server; None without a certificate.

    Raises:
        ConfigError: the files hold no certificate and key.
    """
    if config.command_tls_cert is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(config.command_tls_cert, config.command_tls_key)
    except ssl.SSLError as error:
        raise ConfigError(
            "command_tls_cert: a PEM certificate is needed, and its key in the same file or in"
            " command_tls_key"
        ) from error
    except OSError as error:
        files = " and ".join(filter(None, (config.command_tls_cert, config.command_tls_key)))
        raise ConfigError(f"command_tls_cert: {files}: {error.strerror}") from error
    return context


def _token(config: Config) -> bytes | None:
    token = config.command_token()
    return None if token is None else token.encode()
