"""`/v1/log-level`: how much is logged, told and changed while the agent runs."""

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
    Meta(description="Lines of this level and of worse ones are logged."),
]

log = structlog.get_logger()


class LogLevelBody(Struct, frozen=True):
    """A level, and for whom."""

    level: LevelName
    logger: Annotated[
        str,
        Meta(
            description="All of ours, one of our modules, or a library; with all below it.",
            examples=["klineagent", "klineagent.exchange", "httpx2"],
        ),
    ] = OURS


class LogLevels(Struct, frozen=True):
    """Every logger that has a level of its own; the others have that of the one above."""

    loggers: Annotated[
        dict[str, LevelName], Meta(examples=[{"klineagent": "info", "httpx2": "warning"}])
    ]


def add_logging_routes(app: QuartTrio) -> None:
    """Reading and setting levels; they last until the agent is restarted or reloaded."""

    @app.get("/v1/log-level")
    @operation(LogLevels, tag="commands")
    async def log_levels() -> LogLevels:
        """Tell how much is logged."""
        return _levels()

    @app.put("/v1/log-level")
    @operation(LogLevels, tag="commands", body=LogLevelBody, raises=[InvalidRequest])
    async def set_log_level() -> LogLevels:
        """Change how much is logged."""
        asked = await read_body(LogLevelBody)
        try:
            set_level(LogLevel(asked.level), asked.logger)
        except ValueError as error:
            raise InvalidRequest(f"logger: {error}") from error
        log.info("log_level_set", logger=asked.logger, level=asked.level)
        return _levels()


def _levels() -> LogLevels:
    return LogLevels({name: level.value for name, level in levels().items()})
