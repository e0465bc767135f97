"""The newest lines of the log, in memory, for the dashboard and `klineagent watch`."""

from __future__ import annotations

import logging
import sys
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import structlog
from attrs import frozen

from klineagent.process.logs import OURS

# With all their text 200 kB at most.
MOST_LINES = 300
MOST_TEXT = 600
_EXTRA = structlog.stdlib.ExtraAdder()
_SHOWN_APART = {
    *("event", "level", "timestamp", "logger", "exc_info", "stack_info", "_record"),
    *("message", "asctime"),  # what another formatter has left in a record
}


@frozen
class LogLine:
    """A line of the log."""

    at_s: float
    """Seconds since the epoch, by the system's clock."""
    level: str
    event: str
    """The event; of a library's line the name of its logger."""
    text: str
    """Its fields, or a library's message; without colours, on one line."""


class RecentLines(logging.Handler):
    """Keeps the newest lines from level info on until they are taken.

    Threads log, too; each line is one append.
    """

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._lines: deque[LogLine] = deque(maxlen=MOST_LINES)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record as the log shows it."""
        try:
            self._lines.append(_line_of(record))
        except Exception:  # noqa: BLE001 - as in all handlers of the standard library
            self.handleError(record)

    def take(self) -> list[LogLine]:
        """Return the lines since the last call, oldest first."""
        taken = []
        while self._lines:
            taken.append(self._lines.popleft())
        return taken


@asynccontextmanager
async def open_recent_lines() -> AsyncIterator[RecentLines]:
    """Keep what is logged from now on, as long as the block lasts."""
    lines = RecentLines()
    logging.root.addHandler(lines)
    try:
        yield lines
    finally:
        logging.root.removeHandler(lines)


def _line_of(record: logging.LogRecord) -> LogLine:
    fields: Mapping[str, Any]
    if isinstance(record.msg, dict):  # structlog's, on its way to the formatter
        fields, message = record.msg, str(record.msg.get("event", ""))
    else:
        fields, message = _EXTRA(logging.root, "", {"_record": record}), record.getMessage()
    shown = [f"{name}={_text(each)}" for name, each in fields.items() if name not in _SHOWN_APART]
    event = message
    if record.name != OURS and not record.name.startswith(f"{OURS}."):
        event, shown = record.name, [message]
    if error := _error_of(record.exc_info or fields.get("exc_info")):
        shown.append(f"{type(error).__name__}: {error}")
    text = " ".join(" ".join(shown).split())
    return LogLine(record.created, record.levelname.lower(), event, text[:MOST_TEXT])


def _error_of(exc_info: object) -> BaseException | None:
    """Return the error that a line is about, by any of the ways to say so."""
    match exc_info:
        case BaseException():
            return exc_info
        case (_, BaseException() as error, _):
            return error
        case True:
            return sys.exc_info()[1]
        case _:
            return None


def _text(value: object) -> str:
    text = str(value)
    return f'"{text}"' if " " in text and isinstance(value, str) else text
