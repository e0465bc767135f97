"""What holds for every test: nothing may log an error that the test does not claim."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import structlog


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
