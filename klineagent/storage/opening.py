"""Opening a store by its URL."""

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
    """The store `url` names (see `location`), open until the block ends.

    `ca_file` holds the authorities that vouch for a server's certificate, if not the system's.
    Unless it `may_create` database and tables, a store without them is misconfigured.
    A database out of reach is no reason to fail here: each call reaches for it anew.

    Raises:
        ConfigError: the URL names no store, or one whose engine is not installed.
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
