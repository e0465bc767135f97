"""ClickHouse servers for tests: an installed one, of whatever age, in a folder of its own."""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from attrs import frozen

PASSWORD = "secret"
# The module's dice may have been seeded, alike in several workers.
_CHANCE = random.SystemRandom()
# A second or two; a machine busy with other tests gets much more.
_READY_WITHIN_S = 120

_CONFIG = """<yandex>
  <logger><level>information</level><console>1</console></logger>
  <listen_host>127.0.0.1</listen_host>
  <tcp_port>{port}</tcp_port>
  <path>{folder}/data/</path>
  <tmp_path>{folder}/tmp/</tmp_path>
  <users_config>{folder}/users.xml</users_config>
  <mark_cache_size>67108864</mark_cache_size>
  <default_profile>default</default_profile>
  <default_database>default</default_database>
</yandex>"""
_USERS = """<yandex>
  <profiles><default/><no_ddl><allow_ddl>0</allow_ddl></no_ddl><readonly><readonly>1</readonly></readonly></profiles>
  <quotas><default/></quotas>
  <users>
    <default>
      <password>{password}</password>
      <networks><ip>127.0.0.1</ip></networks>
      <profile>default</profile><quota>default</quota>
    </default>
    <no_ddl>
      <password>{password}</password>
      <networks><ip>127.0.0.1</ip></networks>
      <profile>no_ddl</profile><quota>default</quota>
    </no_ddl>
    <reader>
      <password>{password}</password>
      <networks><ip>127.0.0.1</ip></networks>
      <profile>readonly</profile><quota>default</quota>
    </reader>
  </users>
</yandex>"""


@frozen
class InstalledServer:
    """A running server."""

    port: int

    def url_of(self, database: str, password: str = PASSWORD, user: str = "default") -> str:
        """Where `database` is or would be."""
        return f"clickhouse://{user}:{password}@127.0.0.1:{self.port}/{database}"


@contextmanager
def installed_clickhouse(folder: Path, *, port: int = 0) -> Iterator[InstalledServer]:
    """Run the machine's clickhouse-server in `folder` while the block runs.

    Where there is none the test is skipped, unless `CI=true` promised one.
    """
    # Servers live in sbin, which is not on everybody's path.
    program = shutil.which("clickhouse-server", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        reason = "no clickhouse-server is installed (Debian: apt-get install clickhouse-server)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    port = port or free_port()
    folder.mkdir(exist_ok=True)
    folder.joinpath("users.xml").write_text(_USERS.format(password=PASSWORD))
    config = folder / "config.xml"
    config.write_text(_CONFIG.format(port=port, folder=folder))
    command = [program, f"--config-file={config}"]
    with (
        subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process,
        _ready(process),
    ):
        yield InstalledServer(port)


def free_port() -> int:
    """Return a port that is free, below those that the system gives to connections."""
    while True:
        port = _CHANCE.randrange(10_000, 32_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


@contextmanager
def _ready(process: subprocess.Popen[str]) -> Iterator[None]:
    """Enter when the server says so; read what it logs until it ends, or it would block."""
    ready, ended = threading.Event(), threading.Event()
    lines: list[str] = []

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if "Ready for connections" in line:
                ready.set()
        ended.set()
        ready.set()

    reader = threading.Thread(target=read, name="clickhouse-server's log")
    reader.start()
    try:
        if not ready.wait(_READY_WITHIN_S) or ended.is_set():
            pytest.fail("clickhouse-server did not get ready:\n" + "".join(lines))
        yield
    finally:
        # Asked kindly it would wait for its clients; and what it took must survive this anyway.
        process.kill()
        reader.join()
