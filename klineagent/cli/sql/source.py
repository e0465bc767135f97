"""Options of commands that read a store, whether an agent records into it or not."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from attrs import evolve, frozen

from klineagent.cli.options import CA_FILE, CONFIG_FILE, STORE
from klineagent.cli.remote.connection import Address
from klineagent.cli.remote.options import AGENT, TOKEN_FILE, address_of
from klineagent.config.loading import trace_config
from klineagent.config.model import Config
from klineagent.core.errors import ConfigError
from klineagent.storage.url import FolderLocation, MemoryLocation, ServerLocation, locate


@frozen
class Source:
    """A store to read, and the agent to ask if it is a folder in use."""

    location: FolderLocation | ServerLocation
    address: Address
    is_default: bool
    """Whether the store is only the default one, so that an agent may have another."""


def from_a_store(command: Callable[..., None]) -> Callable[..., None]:
    """Give `command` the options of a store and its agent; pass `source`, and `config`."""

    @AGENT
    @TOKEN_FILE
    @STORE
    @CA_FILE
    @CONFIG_FILE
    @wraps(command)
    def with_source(
        *, url: str, token_file: Path | None, file: Path | None, **options: Any
    ) -> None:
        token = None if token_file is None else str(token_file)
        config, sources = trace_config({**options, "token_file": token}, os.environ, file)
        source = source_of(config, url, is_default="store" not in sources)
        ours = {name: value for name, value in options.items() if name not in {"store", "ca_file"}}
        command(config=config, source=source, **ours)

    return with_source


def source_of(config: Config, url: str, *, is_default: bool) -> Source:
    """Make a source of the store in `config`, and the agent's `url`.

    Raises:
        ConfigError: the store is in the memory of a process, or the URL is no agent's.
    """
    location = locate(config.store)
    if isinstance(location, MemoryLocation):
        raise ConfigError(f"{location.label} is read by nobody but its own process; see --store")
    if isinstance(location, ServerLocation):
        location = evolve(location, ca_file=config.ca_file)
    ca_file = None if config.ca_file is None else Path(config.ca_file)
    address = evolve(address_of(url, None, ca_file), token=config.command_token())
    return Source(location, address, is_default)
