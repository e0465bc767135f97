"""Opens a store by its URL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from attrs import evolve

from klineagent.storage.clickhouse.embedded import open_embedded
from klineagent.storage.clickhouse.server import open_clickhouse
from klineagent.storage.memory.store import MemoryStore
from klineagent.storage.store import Store
from klineagent.storage.url import FolderLocation, MemoryLocation, ServerLocation, locate


@asynccontextmanager
async def open_store(
    url: str, ca_file: str | None = None, *, may_create: bool = True
) -> AsyncIterator[Store]:
    """Open the store at `url` (see `storage/url.py`) until the block ends.

    An unreachable database is no error here: each call connects anew.

    Args:
        url: the store's URL.
        ca_file: CA certificates for a server over TLS, if not the system's.
        may_create: whether to create database and tables; otherwise a store without them raises
            `StoreMisconfigured` when it is used.

    Raises:
        ConfigError: the URL names no store, or its engine is not installed.
    """
    match locate(url):
        case ServerLocation() as server:
            async with open_clickhouse(
                evolve(server, ca_file=ca_file), may_create=may_create
            ) as clickhouse:
                yield clickhouse
        case FolderLocation() as folder:
            async with open_embedded(folder, may_create=may_create) as embedded:
                yield embedded
        case MemoryLocation(label):
            yield MemoryStore(label=label)
