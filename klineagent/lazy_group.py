"""Commands that are imported when they are called, and until then cost nothing."""

from __future__ import annotations

from importlib import import_module

import click

from klineagent.interrupts import deadly_interrupts


class LaterCommand(click.Command):
    """A command of which only the name and the line of help are known, and where the rest is."""

    def __init__(self, name: str, where: str, text: str) -> None:
        """`where` is "module:attribute"; `text` is the first sentence of the command's help."""
        super().__init__(name, help=text)
        self._where = where

    def load(self) -> click.Command:
        """The command itself."""
        module, _, attribute = self._where.partition(":")
        with deadly_interrupts():
            command: click.Command = getattr(import_module(module), attribute)
        return command


class LazyGroup(click.Group):
    """A group whose commands may be `LaterCommand`s: help lists them, a call loads one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """See `click.Group`; completion comes through here, too."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command.load() if isinstance(command, LaterCommand) else command, rest
