from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klineagent.core.errors import ConfigError
from klineagent.storage.url import (
    FolderLocation,
    MemoryLocation,
    ServerLocation,
    locate,
    masked,
)


def test_server_with_everything() -> None:
    """User, password and database are percent-decoded."""
    location = locate("clickhouse://me:p%40ss%2Fw@db.example:9123/my%20market?secure=1")
    assert location == ServerLocation(
        host="db.example",
        port=9123,
        user="me",
        password="p@ss/w",
        database="my market",
        secure=True,
        label="clickhouse://me:***@db.example:9123/my%20market?secure=1",
    )


@pytest.mark.parametrize(
    ("url", "port", "host"),
    [
        ("clickhouse://localhost", 9000, "localhost"),
        ("ClickHouse://localhost/", 9000, "localhost"),
        ("clickhouse://localhost?secure=1", 9440, "localhost"),
        ("clickhouse://[::1]:9001/market?secure=0", 9001, "::1"),
    ],
)
def test_server_defaults(url: str, port: int, host: str) -> None:
    """What a URL leaves out is user `default`, no password, database `market`, the usual port."""
    location = locate(url)
    assert isinstance(location, ServerLocation)
    assert (location.host, location.port) == (host, port)
    assert (location.user, location.password, location.database) == ("default", "", "market")


def test_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder is absolute, or relative to the working directory or to home."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    assert locate("chdb:///var/klines") == FolderLocation(folder=Path("/var/klines"))
    assert locate("chdb:/var/klines") == FolderLocation(folder=Path("/var/klines"))
    assert locate("chdb:data/klines") == FolderLocation(folder=tmp_path / "data/klines")
    assert locate("chdb:~/klines") == FolderLocation(folder=Path("/home/me/klines"))
    assert locate("chdb:///var/klines").label == "chdb:///var/klines"


def test_memory() -> None:
    """Memory needs no more than its scheme."""
    assert locate("memory:") == MemoryLocation()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "must begin with"),
        ("localhost:9000", "must begin with"),
        ("mysql://me:hunter2@localhost", "must begin with"),
        ("clickhouse://", "expected clickhouse://"),
        ("clickhouse://me:hunter2@localhost:port", "port"),
        ("clickhouse://me:hunter2@localhost:99999", "port"),
        ("clickhouse://me:hunter2@localhost/?compress=1", "only option"),
        ("clickhouse://me:hunter2@localhost/?secure=yes", "only option"),
        ("clickhouse://me:hunt/er2@localhost/", "port"),
        ("chdb:", "no folder"),
        ("chdb://relative/klines", "absolute"),
        ("chdb:///var/klines?mode=ro", "cannot hold"),
        ("chdb:///var/{a,b}", "cannot hold"),
    ],
)
def test_unusable_url_is_one_clear_line(url: str, reason: str) -> None:
    """What is wrong is said, and the password is not."""
    with pytest.raises(ConfigError, match=reason) as caught:
        locate(url)
    assert "\n" not in str(caught.value)
    assert "hunt" not in str(caught.value)


@given(st.text(min_size=1, max_size=40))
def test_password_survives_its_url_and_not_its_mask(password: str) -> None:
    """Any password can be quoted into a URL, and masking takes it out whole."""
    url = f"clickhouse://me:{quote(password, safe='')}@localhost/market"
    location = locate(url)
    assert isinstance(location, ServerLocation)
    assert location.password == password
    assert masked(url) == "clickhouse://me:***@localhost/market"
