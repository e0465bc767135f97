from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from datetime import datetime

import pytest
import structlog

from klineagent.process.logs import (
    LIBRARIES,
    LogFormat,
    LogLevel,
    configure_logging,
    levels,
    set_level,
)


@pytest.fixture(autouse=True)
def _logging_is_restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in levels():
        logging.getLogger(name).setLevel(logging.NOTSET)
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
    """Each event is one JSON object on stderr: ours from INFO on, libraries' from WARNING on."""
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


def test_colours_are_for_terminals_that_want_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`NO_COLOR` turns them off."""
    for wish, has_colours in (("", True), ("1", False)):
        monkeypatch.setenv("NO_COLOR", wish)
        monkeypatch.setattr("sys.stderr.isatty", lambda: True)
        configure_logging(LogFormat.CONSOLE)
        structlog.get_logger("klineagent.test").info("registered")
        assert ("\x1b" in capsys.readouterr().err) is has_colours


def test_libraries_have_levels_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    """A level of klineagent's loggers changes none of theirs, nor of unknown libraries."""
    configure_logging(LogFormat.JSON, level=LogLevel.DEBUG)
    assert levels() == {"klineagent": LogLevel.DEBUG, **LIBRARIES}
    for name in ("hypercorn.error", "httpx2", "trio-websocket", "unheard.of"):
        logging.getLogger(name).info("hidden")
    logging.getLogger("asynch.connection").error("hidden")
    logging.getLogger("unheard.of").warning("shown")
    structlog.get_logger("klineagent.test").debug("shown")
    assert [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()] == [
        "shown",
        "shown",
    ]


def test_a_level_applies_to_all_loggers_below(capsys: pytest.CaptureFixture[str]) -> None:
    """From then on, and it replaces levels that were set below before."""
    configure_logging(LogFormat.JSON)
    log = structlog.get_logger("klineagent.process.logs")
    set_level(LogLevel.DEBUG, "klineagent.process.logs")
    log.debug("shown")
    assert levels()["klineagent.process.logs"] is LogLevel.DEBUG
    set_level(LogLevel.ERROR)
    log.warning("hidden")
    assert levels() == {"klineagent": LogLevel.ERROR, **LIBRARIES}
    set_level(LogLevel.INFO, "httpx2")
    logging.getLogger("httpx2").info("shown")
    assert capsys.readouterr().err.count("shown") == 2


@pytest.mark.parametrize("name", ["", "root", "klineagent.nothing", "klineagentx", "os"])
def test_a_logger_that_does_not_exist_is_refused(name: str) -> None:
    """It is not created, however often it is asked for."""
    with pytest.raises(ValueError, match=f"there is no logger '{name}'; there are klineagent"):
        set_level(LogLevel.INFO, name)
    assert name not in levels()
