"""What holds for every test, and the databases that many of them want."""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from itertools import count
from pathlib import Path

import hypothesis
import pytest
import structlog

from klineagent.config.model import DEFAULT_READ_BIND, Config
from klineagent.config.sources import PREFIX
from tests.native.fixture import ModernServer, modern_clickhouse
from tests.servers import InstalledServer, installed_clickhouse

# How long an example takes depends on what else the machine does.
hypothesis.settings.register_profile(
    "busy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.register_profile(
    "quick", hypothesis.settings.get_profile("busy"), max_examples=20, stateful_step_count=20
)
hypothesis.settings.load_profile("busy")


@pytest.fixture(autouse=True)
def _no_unclaimed_errors(
    request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> Iterator[None]:
    """Fail a test that logged an ERROR it did not announce by `@pytest.mark.logs("event", ...)`."""
    structlog.configure(
        processors=[structlog.stdlib.render_to_log_kwargs],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    caplog.set_level(logging.INFO, logger="klineagent")
    yield
    claimed = {event for mark in request.node.iter_markers("logs") for event in mark.args}
    records = caplog.get_records("call")
    unclaimed = [
        record.getMessage()
        for record in records
        if record.levelno >= logging.ERROR and record.getMessage() not in claimed
    ]
    assert not unclaimed, f"errors were logged: {unclaimed}"
    missing = claimed - {record.getMessage() for record in records}
    assert not missing, f"these were announced and not logged: {missing}"


@pytest.fixture(scope="session", autouse=True)
def _no_settings_of_ours() -> Iterator[None]:
    """Whoever runs the tests may have some. `KLINEAGENT_KILLS` is read before: on import."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(PREFIX)]:
            patch.delenv(name)
        yield


@pytest.fixture(scope="session", autouse=True)
def _interrupts_interrupt() -> None:
    """A shell's background jobs ignore Ctrl-C, and so would every process that a test starts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _default_ports_are_taken() -> Iterator[None]:
    """Whoever runs the tests may have servers there; so everybody has, and no test needs them."""
    with ExitStack() as held:
        for bind in (Config().command_bind, Config().status_bind, DEFAULT_READ_BIND):
            taken = held.enter_context(socket.socket())
            with suppress(OSError):  # it is taken indeed
                taken.bind(("127.0.0.1", bind.port))
                taken.listen()
        yield


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


_REAL_DATABASES = ["chdb", "installed_server", "modern_server"]


def _url_of(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    match kind:
        case "memory":
            return "memory:"
        case "chdb":
            pytest.importorskip("chdb")
            return f"chdb://{tmp_path}/klines"
        case fixture:
            server: InstalledServer | ModernServer = request.getfixturevalue(fixture)
            return server.url_of(next(_databases))


@pytest.fixture(params=_REAL_DATABASES)
def real_store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of each kind, empty, that outlives the process that wrote to it."""
    return _url_of(request.param, request, tmp_path)


@pytest.fixture(params=["memory", *_REAL_DATABASES])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store of each kind, empty. One more kind is one more parameter."""
    return _url_of(request.param, request, tmp_path)
