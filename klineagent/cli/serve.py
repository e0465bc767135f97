"""`klineagent serve`: runs the agent."""

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
from klineagent.config.loading import load_config
from klineagent.core.errors import ConfigError
from klineagent.core.interrupts import deadly_interrupts
from klineagent.process.logs import LogLevel, configure_logging


@click.command()
@click.argument("symbols", nargs=-1, metavar="[SYMBOL]...")
@INTERVALS
@VENUE
@setting(
    "ws_url",
    "Websocket URL instead of the default venue's, or VENUE's, without /ws or /stream.",
    "[VENUE=]URL",
    repeated=True,
)
@setting(
    "rest_url",
    "REST URL instead of the default venue's, or VENUE's.",
    "[VENUE=]URL",
    repeated=True,
)
@setting("archive_url", "Archive that jobs import from, if not the exchange's.", "URL|DIR")
@STORE
@CA_FILE
@setting("command_bind", "Address of the command API.", "HOST:PORT")
@setting("command_tls_cert", "Certificate: serve the command API over TLS.", "PEM")
@setting("command_tls_key", "Its private key, if in another file.", "PEM")
@setting("token_file", "File with the token clients must send; or set KLINEAGENT_TOKEN.", "FILE")
@click.option(
    "--allow-anonymous",
    is_flag=True,
    default=None,
    help="Accept commands without a token from any machine that reaches --command-bind.",
)
@setting("status_bind", "Address of the health and metrics API.", "HOST:PORT")
@setting("read_bind", "Address of the read API, or none.", "HOST:PORT")
@setting(
    "read_token_file",
    "File with a token that may read; or set KLINEAGENT_READ_TOKEN.",
    "FILE",
)
@click.option(
    "--forward/--no-forward",
    default=None,
    help="Ask the exchange for what the read API cannot answer.  [default: no-forward]",
)
@setting("max_symbols", "Most symbols to record.", "N")
@setting("agent_ip", "Address other machines reach this agent at.", "IP")
@setting("register_ip", "Fleet manager to register with.", "HOST")
@setting("register_port", "The fleet manager's port.", "PORT")
@setting("self_update_interval_s", "Seconds between heartbeats in table agents.", "S")
@setting("history", "Past candles to fetch for each new series; 0 for none.", "N")
@setting("lookback_s", "How far back to look for gaps at the start.", "1d,12h,...")
@setting("grace_s", "Seconds to wait for a candle's closing event before fetching it.", "S")
@click.option(
    "--updates/--no-updates",
    default=None,
    help="Also keep every state of every candle, in table kline_updates.  [default: no-updates]",
)
@SPOOL
@setting(
    "state",
    "File for subscriptions made over HTTP, or none.  [default: one per database and venue]",
    "FILE",
)
@setting("spool_limit", "Largest size of the spool.", "4G,500M,...")
@setting("flush_interval_s", "Seconds a row may wait for its batch to fill.", "S")
@setting("flush_rows", "Most rows in a batch.", "N")
@setting("buffer_rows", "Most rows in memory while the database is away.", "N")
@setting("drain_timeout_s", "Seconds to write waiting rows when stopping.", "S")
@CONFIG_FILE
@setting("log_format", "Log format: console or json.", "FORMAT")
@setting("log_level", f"Least severe level to log: {', '.join(LogLevel)}.", "LEVEL")
def serve(file: Path | None, symbols: tuple[str, ...], **options: object) -> None:
    """Run the agent: record SYMBOLs, and those added later, until SIGINT or SIGTERM.

    A SYMBOL may name its venue, as in spot:BTCUSDT; otherwise it is one of --venue.
    Every setting can also come from the environment (KLINEAGENT_STORE, ...) or a file.
    """
    if not all(map(str.strip, symbols)):
        raise ConfigError("SYMBOL: the name is empty; is a shell variable unset?")
    given = {"symbols": ",".join(symbols) or None, **options}
    reread = partial(load_config, given, os.environ, file)
    config = reread()
    configure_logging(config.log_format, level=config.log_level)
    # Imported here: help, completion and `config show` need the options but not the agent.
    with deadly_interrupts():
        from klineagent.service import run_service
    run(partial(run_service, config, reread))
