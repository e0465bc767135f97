"""The server as `clickhouse-client` sees it, in a version that has no DateTime64 yet."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.native.fixture import ModernServer

pytestmark = pytest.mark.skipif(
    shutil.which("clickhouse-client") is None, reason="clickhouse-client is not installed"
)

WITHOUT_COMPRESSION = ("--compression", "0")


def ask(
    server: ModernServer, query: str, data: str = "", *options: str
) -> subprocess.CompletedProcess[str]:
    """Run a query in a client of its own."""
    command = ["clickhouse-client", "--host", "127.0.0.1", "--port", str(server.port)]
    command += ["--user", "default", "--password", "secret", "--database", "market"]
    command += ["--query", query, *(options or WITHOUT_COMPRESSION)]
    return subprocess.run(
        command, check=False, input=data, capture_output=True, text=True, timeout=30
    )


def test_results_are_read(server: ModernServer) -> None:
    """Results, empty results with their header, and results of many blocks are printed."""
    answer = ask(
        server,
        "SELECT 1, 'x'; SELECT 3 AS three WHERE 0 FORMAT TSVWithNames; "
        "SELECT * FROM (SELECT number FROM numbers(200000)) ORDER BY number DESC LIMIT 1;",
        "",
        *WITHOUT_COMPRESSION,
        "--multiquery",
    )
    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout == "1\tx\nthree\n199999\n"


def test_rows_are_inserted(server: ModernServer) -> None:
    """The client parses VALUES and CSV by the sample block, the engine stores the rows."""
    create = (
        "CREATE TABLE visitors (a UInt32, b LowCardinality(String), c Nullable(Float64)) "
        "ENGINE = MergeTree ORDER BY a"
    )
    assert ask(server, create).returncode == 0
    assert ask(server, "INSERT INTO visitors VALUES (1, 'x', NULL), (2, 'y', 0.5)").returncode == 0
    assert ask(server, "INSERT INTO visitors (a, b) FORMAT CSV", "3,z\n").returncode == 0
    answer = ask(server, "SELECT * FROM visitors ORDER BY a")
    assert answer.stdout == "1\tx\t\\N\n2\ty\t0.5\n3\tz\t\\N\n"


@pytest.mark.parametrize(
    ("query", "code"), [("SELECT * FROM nope", 60), ("INSERT INTO nope VALUES (1)", 60)]
)
def test_errors_are_shown(server: ModernServer, query: str, code: int) -> None:
    """Errors carry the engine's code and text."""
    answer = ask(server, query)
    assert answer.returncode == code
    assert f"Code: {code}. DB::Exception" in answer.stderr
    assert "nope" in answer.stderr


def test_compression_is_refused_with_a_reason(server: ModernServer) -> None:
    """What the server does not speak it names."""
    answer = ask(server, "SELECT 1", "", "--compression", "1")
    assert "turn compression off" in answer.stderr
