"""`klineagent serve`: the agent."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import click

from klineagent.cli.options import (
    CA_FILE,
    CONFIG_FILE,
    INTERVALS,
    SPOOL,
    STORE,
    VENUE,
    setting,
)
from klineagent.cli.running import run
from klineagent.config.model import load_config
from klineagent.core.errors import ConfigError
from klineagent.core.interrupts import deadly_interrupts
from klineagent.process.logs import LogLevel, configure_logging


@click.command()
@click.argument("symbols", nargs=-1, metavar="[SYMBOL]...")
@INTERVALS
@VENUE
@setting("ws_url", "Replaces the prefix before /ws and /stream.", "URL")
@setting("rest_url", "Replaces the venue's REST address.", "URL")
@STORE
@CA_FILE
@setting("command_bind", "Where commands are taken.", "HOST:PORT")
@setting("command_tls_cert", "Take them over TLS, with this certificate.", "PEM")
@setting("command_tls_key", "Its key, if that is in another file.", "PEM")
@setting("token_file", "What clients must show; or set KLINEAGENT_TOKEN.", "FILE")
@click.option(
    "--allow-anonymous",
    is_flag=True,
    default=None,
    help="Let anyone command who can reach --command-bind, also from other machines.",
)
@setting("status_bind", "Where health is told.", "HOST:PORT")
@setting("max_symbols", "How many symbols are accepted.", "N")
@setting("agent_ip", "The address this agent tells others.", "IP")
@setting("register_ip", "The manager to register with.", "HOST")
@setting("register_port", "The manager's port.", "PORT")
@setting("self_update_interval_s", "Between writes of its row in `agents`.", "S")
@setting("history", "Candles fetched from before a series is added; 0 for none.", "N")
@setting("lookback_s", "How far back gaps are looked for.", "1d,12h,...")
@setting("grace_s", "How long a closed candle may stay without its event.", "S")
@click.option(
    "--updates/--no-updates",
    default=None,
    help="Keep every state of every candle, too, in table kline_updates.  [default: no-updates]",
)
@SPOOL
@setting(
    "state",
    "The file for subscriptions made over HTTP, or none.  [default: one per database and venue]",
    "FILE",
)
@setting("spool_limit", "How large that folder may grow.", "4G,500M,...")
@setting("flush_interval_s", "How long a row may wait for company.", "S")
@setting("flush_rows", "Rows in a batch at the most.", "N")
@setting("buffer_rows", "Rows that may wait while the database is away.", "N")
@setting("drain_timeout_s", "What stopping may take to write what waits.", "S")
@CONFIG_FILE
@setting("log_format", "console or json.", "FORMAT")
@setting("log_level", f"From where on lines are logged: {', '.join(LogLevel)}.", "LEVEL")
def serve(file: Path | None, symbols: tuple[str, ...], **options: object) -> None:
    """Record SYMBOLs, and what is added over HTTP, until SIGINT or SIGTERM.

    Every setting can also come from the environment (KLINEAGENT_STORE, ...) or a file.
    """
    if not all(map(str.strip, symbols)):
        raise ConfigError("SYMBOL: the name is empty; is a variable of your shell not set?")
    given = {"symbols": ",".join(symbols) or None, **options}
    reread = partial(load_config, given, os.environ, file)
    config = reread()
    configure_logging(config.log_format, level=config.log_level)
    # Only now: help, completion and `config show` need the options and not the agent.
    with deadly_interrupts():
        from klineagent.service import run_service
    run(partial(run_service, config, reread))
