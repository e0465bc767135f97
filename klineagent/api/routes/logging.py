"""`/v1/log-level`: reads and changes log levels of the running agent."""

from __future__ import annotations

from typing import Annotated, Literal

import structlog
from msgspec import Meta, Struct
from quart_trio import QuartTrio

from klineagent.api.openapi import operation
from klineagent.api.requests import read_body
from klineagent.core.errors import InvalidRequest
from klineagent.process.logs import OURS, LogLevel, levels, set_level

LevelName = Annotated[
    Literal["debug", "info", "warning", "error", "critical"],
    Meta(description="Least severe level that is logged."),
]

log = structlog.get_logger()


class LogLevelBody(Struct, frozen=True):
    """A log level, and the logger it is for."""

    level: LevelName
    logger: Annotated[
        str,
        Meta(
            description="A logger: `klineagent`, one of its modules, or a library; it and all"
            " below it change.",
            examples=["klineagent", "klineagent.exchange", "httpx2"],
        ),
    ] = OURS


class LogLevels(Struct, frozen=True):
    """Every logger with a level of its own; others inherit from the logger above."""

    loggers: Annotated[
        dict[str, LevelName], Meta(examples=[{"klineagent": "info", "httpx2": "warning"}])
    ]


def add_logging_routes(app: QuartTrio) -> None:
    """Add the routes of log levels; changes last until the agent is restarted or reloaded."""

    @app.get("/v1/log-level")
    @operation(LogLevels, tag="commands")
    async def log_levels() -> LogLevels:
        """List the log levels."""
        return _levels()

    @app.put("/v1/log-level")
    @operation(LogLevels, tag="commands", body=LogLevelBody, raises=[InvalidRequest])
    async def set_log_level() -> LogLevels:
        """Change the log level of a logger."""
        asked = await read_body(LogLevelBody)
        try:
            set_level(LogLevel(asked.level), asked.logger)
        except ValueError as error:
            raise InvalidRequest(f"logger: {error}") from error
        log.info("log_level_set", logger=asked.logger, level=asked.level)
        return _levels()


def _levels() -> LogLevels:
    return LogLevels({name: level.value for name, level in levels().items()})
