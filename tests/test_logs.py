from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from datetime import datetime

import pytest
import structlog

from klineagent.logs import LogFormat, configure_logging


@pytest.fixture(autouse=True)
def _logging_is_restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("klineagent").setLevel(logging.NOTSET)
    structlog.reset_defaults()


def _log_everything() -> None:
    log = structlog.get_logger("klineagent.test")
    log.debug("hidden")
    log.info("registered", tries=3)
    logging.getLogger("hypercorn.error").info("hidden")
    logging.getLogger("httpx2").warning("odd %s", "answer")
    try:
        int("broken")
    except ValueError:
        log.exception("failed")


def test_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """Each event is one JSON object on stderr, ours from INFO and foreign ones from WARNING."""
    configure_logging(LogFormat.JSON)
    _log_everything()
    out, err = capsys.readouterr()
    assert out == ""
    ours, foreign, failure = (json.loads(line) for line in err.splitlines())
    assert (ours["event"], ours["level"], ours["tries"]) == ("registered", "info", 3)
    offset = datetime.fromisoformat(ours["timestamp"]).utcoffset()
    assert offset is not None
    assert not offset
    assert (foreign["event"], foreign["level"], foreign["logger"]) == (
        "odd answer",
        "warning",
        "httpx2",
    )
    assert "ValueError: invalid literal" in failure["exception"]


def test_console_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal the console format is one plain line per event."""
    configure_logging(LogFormat.CONSOLE)
    _log_everything()
    lines = capsys.readouterr().err.splitlines()
    assert "registered" in lines[0]
    assert "tries=3" in lines[0]
    assert "odd answer" in lines[1]
    assert "\x1b" not in "".join(lines)
