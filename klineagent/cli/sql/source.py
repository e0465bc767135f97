"""Options of commands that read a store, whether an agent records into it or not."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any

import click
from attrs import evolve, frozen

from klineagent.cli.options import CA_FILE, CONFIG_FILE, STORE, read_time
from klineagent.cli.remote.connection import Address
from klineagent.cli.remote.options import AGENT, TOKEN_FILE, address_of, complete_intervals
from klineagent.config.converters import to_intervals
from klineagent.config.loading import trace_config
from klineagent.config.model import Config
from klineagent.core.errors import ConfigError
from klineagent.storage.reader import END_MS
from klineagent.storage.url import FolderLocation, MemoryLocation, ServerLocation, locate

_SETTINGS = frozenset({"venue", "store", "ca_file", "rest_url"})
"""The options of such commands that are settings; other options may have the name of one."""


@frozen
class Source:
    """A store to read, and the agent to ask if it is a folder in use."""

    config: Config
    given: Mapping[str, str]
    """Where each setting comes from that was not left at its default."""
    location: FolderLocation | ServerLocation
    address: Address

    @property
    def is_default(self) -> bool:
        """Whether the store is only the default one, so that an agent may have another."""
        return "store" not in self.given


def from_a_store(command: Callable[..., None]) -> Callable[..., None]:
    """Give `command` the options that say where a store and its agent are; pass them as `source`.

    If it has option --venue, that is in the source's configuration, too.
    """

    @AGENT
    @TOKEN_FILE
    @STORE
    @CA_FILE
    @CONFIG_FILE
    @wraps(command)
    def with_source(
        *, url: str, token_file: Path | None, file: Path | None, **options: Any
    ) -> None:
        settings = {name: options.pop(name) for name in _SETTINGS & options.keys()}
        settings["token_file"] = None if token_file is None else str(token_file)
        config, given = trace_config(settings, os.environ, file)
        command(source=source_of(config, given, url), **options)

    return with_source


def of_series(subject: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command --intervals, --from and --to; pass them as `intervals` and `span`.

    The span is in milliseconds. `subject` says in the help text what is selected.
    """

    def add(command: Callable[..., None]) -> Callable[..., None]:
        @click.option(
            "--intervals",
            "chosen",
            metavar="1m,5m,...",
            help="Intervals.  [default: all that are stored]",
            shell_complete=complete_intervals,
        )
        @click.option("--from", "since", metavar="TIME", help=f"{subject} at TIME or later.")
        @click.option("--to", "until", metavar="TIME", help=f"{subject} before TIME.")
        @wraps(command)
        def with_series(
            *, chosen: str | None, since: str | None, until: str | None, **options: Any
        ) -> None:
            first_ms = read_time(since, "--from") or 0
            end_ms = read_time(until, "--to")
            if end_ms is not None and first_ms >= end_ms:
                raise ConfigError(f"--from {since or 0} is not before --to {until}")
            try:
                intervals = to_intervals(chosen) if chosen else ()
            except ValueError as error:
                raise ConfigError(f"--intervals: {error}") from error
            span = (first_ms, END_MS if end_ms is None else min(end_ms, END_MS))
            command(intervals=intervals, span=span, **options)

        return with_series

    return add


def source_of(config: Config, given: Mapping[str, str], url: str) -> Source:
    """Make a source of the store in `config`, and the agent's `url`.

    Raises:
        ConfigError: the store is in the memory of a process, or the URL is no agent's.
    """
    location = locate(config.store)
    if isinstance(location, MemoryLocation):
        raise ConfigError(f"{location.label} can be read by its own process only; see --store")
    if isinstance(location, ServerLocation):
        location = evolve(location, ca_file=config.ca_file)
    ca_file = None if config.ca_file is None else Path(config.ca_file)
    address = evolve(address_of(url, None, ca_file), token=config.command_token())
    return Source(config, given, location, address)
