"""Options of all commands to a running agent: its URL, token and certificate, and JSON output."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click
import httpx2
import trio
from click.shell_completion import CompletionItem

from klineagent.api.models.contract import Symbols
from klineagent.cli.remote.connection import Address, open_connection
from klineagent.config.loading import load_config
from klineagent.core.errors import ConfigError, KlineagentError
from klineagent.core.interval import Interval

DEFAULT_URL = "http://127.0.0.1:9999"
_HIGHEST_PORT = 65_535
_COMPLETE_WITHIN_S = 0.5
"""The shell waits this long after Tab."""

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)

AGENT = click.option(
    "--agent",
    "url",
    default=DEFAULT_URL,
    show_default=True,
    envvar="KLINEAGENT_AGENT",
    show_envvar=True,
    metavar="URL",
    help="The agent's command API.",
)
TOKEN_FILE = click.option(
    "--token-file",
    type=_FILE,
    envvar="KLINEAGENT_TOKEN_FILE",
    metavar="FILE",
    help="File with the agent's token; or set KLINEAGENT_TOKEN.",
)
CA_FILE = click.option(
    "--ca-file",
    type=_FILE,
    envvar="KLINEAGENT_CA_FILE",
    metavar="PEM",
    help="CA certificate for an https agent.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print the agent's JSON answer.")


def to_an_agent(command: Callable[..., None]) -> Callable[..., None]:
    """Give `command` the options that say where the agent is, and pass them as `address`."""

    @CA_FILE
    @TOKEN_FILE
    @AGENT
    @wraps(command)
    def with_address(
        url: str, token_file: Path | None, ca_file: Path | None, **others: object
    ) -> None:
        command(address=address_of(url, token_file, ca_file), **others)

    return with_address


def address_of(url: str, token_file: Path | None, ca_file: Path | None) -> Address:
    """Make an address of the options' values, with the token from its file or the environment.

    Raises:
        ConfigError: the URL is no agent's, or the token file cannot be read.
    """
    try:
        parts = httpx2.URL(url.rstrip("/"))
    except httpx2.InvalidURL as error:
        raise ConfigError(f"--agent: expected http://HOST:PORT, got {url!r}") from error
    is_port = parts.port is None or parts.port <= _HIGHEST_PORT
    if parts.scheme not in {"http", "https"} or not parts.host or not is_port:
        raise ConfigError(f"--agent: expected http://HOST:PORT or https://..., got {url!r}")
    # The option wins over the environment.
    environ = {} if token_file else {"KLINEAGENT_TOKEN": os.environ.get("KLINEAGENT_TOKEN", "")}
    options = {"token_file": str(token_file)} if token_file else {}
    token = load_config(options, environ, None).command_token()
    return Address(url=str(parts), token=token, ca_file=ca_file)


def complete_intervals(
    _ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete intervals, also behind a comma."""
    before, comma, begun = incomplete.rpartition(",")
    there = before.split(",")
    return [
        CompletionItem(f"{before}{comma}{name}")
        for name in (each.value for each in Interval)
        if name.startswith(begun) and name not in there
    ]


def complete_symbols(
    ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete running symbols, if the agent answers within `_COMPLETE_WITHIN_S`."""
    given: dict[str, Any] = ctx.params

    async def symbols() -> list[str]:
        address = address_of(
            given.get("url") or DEFAULT_URL, given.get("token_file"), given.get("ca_file")
        )
        with trio.fail_after(_COMPLETE_WITHIN_S):
            async with open_connection(address) as connection:
                return (await connection.get(Symbols, "/symbols")).value.symbols

    try:
        there = trio.run(symbols)
    except (KlineagentError, trio.TooSlowError):
        return []  # an error message would land in the line that is being typed
    return [CompletionItem(each) for each in there if each.startswith(incomplete.upper())]
