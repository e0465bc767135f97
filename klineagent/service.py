"""Runs the agent for `klineagent serve`: start, reload and stop, reported to the service manager.

SIGHUP             reloads the configuration, and applies what can change while the agent runs
SIGINT, SIGTERM    stop the agent in an orderly way
"""

from __future__ import annotations

import os
from collections.abc import Callable

import structlog
from attrs import define, evolve, fields

from klineagent.agent import open_agent
from klineagent.config.model import Config
from klineagent.core.errors import ConfigError
from klineagent.process.interpreter import answer_promptly
from klineagent.process.logs import set_level
from klineagent.process.signals import open_stop_signal, reloaded_by_signal
from klineagent.process.systemd import ServiceManager, open_service_manager

RELOADABLE = frozenset({"log_level"})
"""The settings that can be changed while the agent runs."""

log = structlog.get_logger()


async def run_service(config: Config, reread: Callable[[], Config]) -> None:
    """Record until a signal stops the agent; `reread` loads the configuration again.

    Raises:
        KlineagentError: the agent could not be started.
    """
    async with (
        open_stop_signal() as stop,
        open_service_manager(os.environ) as service_manager,
        # Around start and stop as well, when SIGHUP must not kill the process.
        reloaded_by_signal(
            reload := Reload(config=config, reread=reread, service_manager=service_manager)
        ),
        open_agent(config) as agent,
    ):
        answer_promptly()
        reload.status = f"commands on {agent.command_bind}, status on {agent.status_bind}"
        await service_manager.ready(reload.status)
        await stop.wait()
        reload.status = None
        await service_manager.stopping()
    log.info("stopped")


@define(eq=False, kw_only=True)
class Reload:
    """Reads the configuration again, and applies what can change at once."""

    config: Config
    """The configuration in force."""
    reread: Callable[[], Config]
    service_manager: ServiceManager
    status: str | None = None
    """The status line for the service manager after a reload; None while there is none to do."""

    async def __call__(self) -> None:
        """Reload; an invalid configuration is logged and changes nothing."""
        if (status := self.status) is None:
            return
        await self.service_manager.reloading()
        try:
            self._apply(self.reread())
        except ConfigError as error:
            log.error("reload_failed", error=str(error))  # noqa: TRY400 - no bug of ours
        await self.service_manager.ready(status)

    def _apply(self, wanted: Config) -> None:
        changed = {
            each.name
            for each in fields(Config)
            if getattr(self.config, each.name) != getattr(wanted, each.name)
        }
        # Even if the setting is the same: the level may have been changed over HTTP meanwhile.
        set_level(wanted.log_level)
        # Other settings stay as at the start, so that each reload reports them until a restart.
        self.config = evolve(self.config, log_level=wanted.log_level)
        later = sorted(changed - RELOADABLE)
        log.info("reloaded", log_level=str(wanted.log_level), needs_restart=later)
