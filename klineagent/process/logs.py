"""Logging: one renderer and one set of levels for klineagent's events and those of libraries."""

from __future__ import annotations

import enum
import logging
import os
import sys
from collections.abc import Mapping

import structlog

OURS = "klineagent"
"""The root of klineagent's loggers; each module has one of its own name."""


class LogFormat(enum.StrEnum):
    """The format of log lines."""

    CONSOLE = "console"
    JSON = "json"


class LogLevel(enum.StrEnum):
    """The least level that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"

    @property
    def number(self) -> int:
        """The level's number in the standard library."""
        return logging.getLevelNamesMapping()[self.name]


LIBRARIES: Mapping[str, LogLevel] = {
    # It logs every failed connection; klineagent logs failures once a minute and explains them.
    "asynch": LogLevel.CRITICAL,
    # At INFO these log every request, and trio-websocket every frame.
    "httpcore2": LogLevel.WARNING,
    "httpx2": LogLevel.WARNING,
    "hypercorn": LogLevel.WARNING,
    "trio": LogLevel.WARNING,
    "trio-websocket": LogLevel.WARNING,
}
"""The log levels of libraries. Others log from WARNING on."""


def configure_logging(
    log_format: LogFormat, *, level: LogLevel = LogLevel.INFO, shown: LogLevel | None = None
) -> None:
    """Write every event to stderr as one line with its UTC time; klineagent's from `level` on.

    If `shown` is given, less severe ones are logged and not written: the dashboard has them.
    """
    # Applied to klineagent's events and, as the foreign chain, to the standard library's records.
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.ExtraAdder(),
    ]
    handler = logging.StreamHandler(sys.stderr)
    if shown is not None:
        handler.setLevel(shown.number)
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
    """Set the level of `logger` and all loggers below it.

    Raises:
        ValueError: there is no such logger: it must be a klineagent module or in `LIBRARIES`.
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
    """Return the level of each logger that has its own; others inherit from the one above."""
    return {
        logger.name: LogLevel(logging.getLevelName(logger.level).lower())
        for logger in sorted(_loggers_with_level(), key=lambda each: each.name)
    }


def _loggers_with_level() -> list[logging.Logger]:
    """Return the known loggers whose level was set."""
    made = logging.root.manager.loggerDict
    return [
        each
        for name, each in made.items()
        if isinstance(each, logging.Logger) and each.level != logging.NOTSET and _is_known(name)
    ]


def _is_known(logger: str) -> bool:
    # Known by its module, because asking for a logger by any name creates it.
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
