"""Log lines: one renderer and one set of levels for our events and for what libraries log."""

from __future__ import annotations

import enum
import logging
import os
import sys
from collections.abc import Mapping

import structlog

OURS = "klineagent"
"""The logger above all of ours; each module has its own, by its name."""


class LogFormat(enum.StrEnum):
    """How log lines look."""

    CONSOLE = "console"
    JSON = "json"


class LogLevel(enum.StrEnum):
    """How much is logged: lines of this level, and of those behind it."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"

    @property
    def number(self) -> int:
        """What the standard library calls it."""
        return logging.getLevelNamesMapping()[self.name]


LIBRARIES: Mapping[str, LogLevel] = {
    # It tells of every failed connection; so do we, once a minute and with what it means.
    "asynch": LogLevel.CRITICAL,
    # From INFO on these tell of every request, and trio-websocket of every frame.
    "httpcore2": LogLevel.WARNING,
    "httpx2": LogLevel.WARNING,
    "hypercorn": LogLevel.WARNING,
    "trio": LogLevel.WARNING,
    "trio-websocket": LogLevel.WARNING,
}
"""Libraries that log, and from where on. Others log from WARNING on, too."""


def configure_logging(log_format: LogFormat, *, level: LogLevel = LogLevel.INFO) -> None:
    """Send every event to stderr, as one line with its UTC time; ours from `level` up."""
    # Applied to our events and, as the foreign chain, to the records of the standard library.
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.ExtraAdder(),
    ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_rendering(log_format),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    for library, its_level in LIBRARIES.items():
        set_level(its_level, library)
    set_level(level)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )


def set_level(level: LogLevel, logger: str = OURS) -> None:
    """Log what `logger` and all below it have to say from `level` up, from now on.

    Raises:
        ValueError: there is no such logger; names are those of our modules and of `LIBRARIES`.
    """
    if not _is_known(logger):
        raise ValueError(
            f"there is no logger {logger!r}; there are {OURS}, its modules by their full names,"
            f" {', '.join(LIBRARIES)}"
        )
    for below in _loggers_with_level():
        if below.name.startswith(f"{logger}."):
            below.setLevel(logging.NOTSET)
    logging.getLogger(logger).setLevel(level.number)


def levels() -> dict[str, LogLevel]:
    """The level of each logger that has one of its own; the others have that of the one above."""
    return {
        logger.name: LogLevel(logging.getLevelName(logger.level).lower())
        for logger in sorted(_loggers_with_level(), key=lambda each: each.name)
    }


def _loggers_with_level() -> list[logging.Logger]:
    """Those known here, of which a level was set."""
    made = logging.root.manager.loggerDict
    return [
        each
        for name, each in made.items()
        if isinstance(each, logging.Logger) and each.level != logging.NOTSET and _is_known(name)
    ]


def _is_known(logger: str) -> bool:
    # By modules: a logger is made when it is first used, and any name would make one.
    is_ours = logger == OURS or (logger.startswith(f"{OURS}.") and logger in sys.modules)
    return is_ours or logger in LIBRARIES


def _rendering(log_format: LogFormat) -> list[structlog.typing.Processor]:
    if log_format is LogFormat.JSON:
        return [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(default=str),
        ]
    return [
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty() and not os.environ.get("NO_COLOR"),
            exception_formatter=structlog.dev.plain_traceback,
        )
    ]
