"""A modern ClickHouse for tests: the server of this folder in its own process."""

from __future__ import annotations

import selectors
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen

from tests.places import ROOT

_USER, _PASSWORD, _DATABASE = "default", "secret", "market"
# Loading the engine takes about a second; a machine busy with other tests gets some more.
_READY_WITHIN_S = 120.0
_STOP_WITHIN_S = 10.0


@frozen
class ModernServer:
    """A running server; whatever it answers, chdb answered."""

    port: int

    @property
    def url(self) -> str:
        """Where its database `market` is, which exists."""
        return self.url_of(_DATABASE)

    def url_of(self, database: str, password: str = _PASSWORD, user: str = _USER) -> str:
        """Where another database would be, or how to knock with another name or password."""
        return f"clickhouse://{user}:{password}@127.0.0.1:{self.port}/{database}"


@contextmanager
def modern_clickhouse(
    path: Path, *, port: int = 0, progress_before_exception: bool = False
) -> Iterator[ModernServer]:
    """Serve the database in folder `path` while the `with` block runs.

    One after another, several servers may have the same path: what one stored, the next has.
    Give the next one the port of the first to play an outage.

    Raises:
        TimeoutError: it was not ready in time; its errors are on standard error.
    """
    command = [sys.executable, "-m", "tests.native.server"]
    command += ["--path", str(path / "modern-clickhouse"), "--port", str(port)]
    command += ["--user", _USER, "--password", _PASSWORD, "--create-database", _DATABASE]
    if progress_before_exception:
        command.append("--progress-before-exception")
    with subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield ModernServer(_read_port(process))
        finally:
            _stop(process)


def _read_port(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    # Not `select.select`: an engine leaves descriptors behind, and that one knows 1,024.
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        line = process.stdout.readline() if selector.select(_READY_WITHIN_S) else ""
    if not line:
        raise TimeoutError("tests.native.server did not get ready")
    return int(line)


def _stop(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.close()  # it serves until then
    try:
        process.wait(_STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
