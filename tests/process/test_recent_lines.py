"""The log's newest lines, as a page shows them."""

from __future__ import annotations

import logging

import pytest
import structlog

from klineagent.process.logs import LogFormat, LogLevel, configure_logging
from klineagent.process.recent_lines import MOST_LINES, MOST_TEXT, RecentLines, open_recent_lines


def _log_some() -> None:
    log = structlog.get_logger("klineagent.api.app")
    log.info("snapshot_taken", snapshot="a-1", as_of=None, note="two words")
    log.debug("not_shown")
    log.error("connection_failed", exc_info=OSError("the disk is\nfull"))


def _check(lines: RecentLines) -> None:
    taken, failed = lines.take()
    assert (taken.level, taken.event) == ("info", "snapshot_taken")
    assert {*taken.text.split(" ", 2)[:2]} == {"snapshot=a-1", "as_of=None"}
    assert 'note="two words"' in taken.text
    assert (failed.level, failed.event) == ("error", "connection_failed")
    assert failed.text == "OSError: the disk is full"
    assert lines.take() == []


@pytest.mark.logs("connection_failed")
async def test_lines_are_kept_as_they_are_logged() -> None:
    """Each with its level, its event and its fields, exceptions on one line."""
    async with open_recent_lines() as lines:
        _log_some()
        _check(lines)
    assert lines not in logging.root.handlers


@pytest.mark.parametrize("log_format", [*LogFormat])
async def test_lines_are_kept_as_a_service_logs_them(
    log_format: LogFormat, capsys: pytest.CaptureFixture[str]
) -> None:
    """The pipeline of the service hands its events on in another form than that of tests."""
    handlers, level = [*logging.root.handlers], logging.root.level
    try:
        configure_logging(log_format, level=LogLevel.INFO)
        async with open_recent_lines() as lines:
            structlog.contextvars.bind_contextvars(venue="spot")
            structlog.get_logger("klineagent.api.app").warning("spool_filling", bytes=7)
            structlog.contextvars.clear_contextvars()
            try:
                int("seven")
            except ValueError:
                structlog.get_logger("klineagent.api.app").exception("connection_failed")
            logging.getLogger("hypercorn.error").warning("a %s message", "library's")
        ours, failed, theirs = lines.take()
        assert (ours.level, ours.event) == ("warning", "spool_filling")
        assert {*ours.text.split()} == {"bytes=7", "venue=spot"}
        assert failed.text == "ValueError: invalid literal for int() with base 10: 'seven'"
        assert (theirs.event, theirs.text) == ("hypercorn.error", "a library's message")
        assert "spool_filling" in capsys.readouterr().err
    finally:
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)


async def test_a_flood_takes_no_more_room() -> None:
    """The newest lines stay, and long ones are cut."""
    async with open_recent_lines() as lines:
        for number in range(2 * MOST_LINES):
            structlog.get_logger("klineagent").info("recording", number=number, text="x" * 10_000)
        kept = lines.take()
    assert len(kept) == MOST_LINES
    assert kept[-1].text.startswith(f"number={2 * MOST_LINES - 1} ")
    assert {len(each.text) for each in kept} == {MOST_TEXT}
