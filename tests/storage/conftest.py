"""One store of each kind, for the tests of what all of them promise."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path

import pytest

from klineagent.storage.opening import AnyStore, open_store
from tests.native.fixture import ModernServer, modern_clickhouse
from tests.servers import InstalledServer, installed_clickhouse

_databases = (f"test_{number}" for number in count())


@pytest.fixture(scope="session")
def installed_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InstalledServer]:
    """The machine's own ClickHouse; Debian's is of 2018."""
    with installed_clickhouse(tmp_path_factory.mktemp("installed")) as server:
        yield server


@pytest.fixture(scope="session")
def modern_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModernServer]:
    """Today's engine behind today's protocol."""
    with modern_clickhouse(tmp_path_factory.mktemp("modern")) as server:
        yield server


@pytest.fixture(params=["memory", "chdb", "installed_server", "modern_server"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store of each kind, empty. One more kind is one more parameter."""
    match request.param:
        case "memory":
            return "memory:"
        case "chdb":
            pytest.importorskip("chdb")
            return f"chdb://{tmp_path}/klines"
        case fixture:
            server: InstalledServer | ModernServer = request.getfixturevalue(fixture)
            return server.url_of(next(_databases))


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[AnyStore]:
    """The store at `store_url`, open."""
    async with open_store(store_url) as store:
        yield store
