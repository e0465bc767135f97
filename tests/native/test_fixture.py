from __future__ import annotations

from pathlib import Path

import pytest
from clickhouse_driver import Client
from clickhouse_driver.errors import NetworkError

from tests.native.fixture import modern_clickhouse


def test_what_was_stored_outlives_its_server(tmp_path: Path) -> None:
    """After an outage the same address serves the same rows, even to the same client."""
    with modern_clickhouse(tmp_path) as server:
        client = Client.from_url(server.url)
        client.execute("CREATE TABLE t (a UInt8) ENGINE = MergeTree ORDER BY a")
        client.execute("INSERT INTO t VALUES", [(7,)])
    with pytest.raises(NetworkError):
        client.execute("SELECT 1")
    with modern_clickhouse(tmp_path, port=server.port) as again:
        assert again.url == server.url
        assert client.execute("SELECT * FROM t") == [(7,)]
        client.disconnect()


def test_a_server_that_cannot_start_is_reported(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A path of another server's database is an error at once, with its reason at hand."""
    with (
        modern_clickhouse(tmp_path),
        pytest.raises(TimeoutError, match="did not get ready"),
        modern_clickhouse(tmp_path),
    ):
        pass
    assert "EmbeddedServer" in capfd.readouterr().err
