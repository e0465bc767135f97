"""One server for the whole folder, one empty database for each test."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest
from clickhouse_driver import Client

from tests.native.fixture import ModernServer, modern_clickhouse

_numbers = count(1)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModernServer]:
    """A server everyone shares: the engine takes a second to load."""
    with modern_clickhouse(tmp_path_factory.mktemp("modern")) as server:
        yield server


@pytest.fixture
def url(server: ModernServer) -> str:
    """An empty database's address."""
    database = f"test_{next(_numbers)}"
    client = Client.from_url(server.url)
    client.execute(f"CREATE DATABASE {database}")
    client.disconnect()
    return server.url_of(database)


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    """clickhouse-driver, connected to an empty database."""
    # Where an answer is missing a test should fail soon, not after the driver's five minutes.
    client = Client.from_url(f"{url}?send_receive_timeout=20")
    yield client
    client.disconnect()
