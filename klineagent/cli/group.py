"""The commands by name: where each is, and the first sentence of its help."""

from __future__ import annotations

import os
from importlib import import_module

import click
from attrs import fields_dict

from klineagent import __version__
from klineagent.cli.output import told_output
from klineagent.core.errors import KlineagentError, OutputClosed
from klineagent.core.interrupts import deadly_interrupts


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


_CLIENT = "klineagent.cli.remote.commands"
_COMMANDS = [
    LaterCommand(
        "serve",
        "klineagent.cli.serve:serve",
        "Record SYMBOLs, and what is added over HTTP, until SIGINT or SIGTERM.",
    ),
    LaterCommand(
        "config",
        "klineagent.cli.config:config_group",
        "Look at the configuration.",
    ),
    LaterCommand(
        "show",
        "klineagent.cli.show:show",
        "Show what is stored: all series, or the newest closed candles of SYMBOL at INTERVAL.",
    ),
    LaterCommand(
        "spool",
        "klineagent.cli.spool:spool",
        "Look after rows that wait on disk or that the database refused.",
    ),
    LaterCommand("status", f"{_CLIENT}:status", "Tell how the agent at --agent is."),
    LaterCommand("list", f"{_CLIENT}:list_", "List what runs: symbols and their intervals."),
    LaterCommand(
        "add", f"{_CLIENT}:add", "Record SYMBOLs, and what matches PATTERNs, from now on."
    ),
    LaterCommand(
        "remove", f"{_CLIENT}:remove", "Record SYMBOLs no more, nor what matches PATTERNs."
    ),
    LaterCommand(
        "coverage",
        f"{_CLIENT}:coverage",
        "Tell what is stored of each series, what is missing and why.",
    ),
    LaterCommand(
        "why",
        f"{_CLIENT}:why",
        "Tell all that is known of one candle: where it is, or why it is missing.",
    ),
    LaterCommand(
        "limits", f"{_CLIENT}:limits", "Tell what the exchange allows and what is used of it."
    ),
    LaterCommand("feeds", f"{_CLIENT}:feeds", "Tell of the connections to the exchange."),
    LaterCommand(
        "watch",
        f"{_CLIENT}:watch",
        "Watch the agent: totals, feeds, series that are behind, what happens; q ends it.",
    ),
    LaterCommand(
        "simulate",
        "klineagent.cli.simulate:simulate",
        "Run a twin of the exchange: websocket and REST on one port.",
    ),
    LaterCommand(
        "demo",
        "klineagent.cli.demo:demo",
        "Show all of it at once: exchange twin, agent and database in one process.",
    ),
    LaterCommand(
        "prove",
        "klineagent.proof.command:prove",
        "Prove that no candle is missing, wrong or doubled, and no limit broken.",
    ),
    LaterCommand(
        "bench",
        "klineagent.bench.command:bench",
        "Measure the agent as it is served against the exchange twin.",
    ),
]


@click.group(
    cls=LazyGroup,
    commands=_COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="klineagent")
def commands() -> None:
    """Keep Binance candlesticks flowing, with none missing, into ClickHouse."""
    _warn_of_unknown_variables()


def _warn_of_unknown_variables() -> None:
    """Tell of variables that were meant for us and set nothing.

    They end no command: Kubernetes makes some for a service whose name begins with ours.
    """
    with deadly_interrupts():
        from klineagent.config.model import Config
        from klineagent.config.sources import unknown_variables
    for line in unknown_variables(os.environ, fields_dict(Config)):
        click.echo(f"klineagent: {line}", err=True)


def run_command() -> int:
    """Run the command that was typed; returns its exit code.

    An error its user can do something about is one line.

    Raises:
        KeyboardInterrupt: Ctrl-C has ended it.
    """
    try:
        with told_output():
            return commands.main(standalone_mode=False) or 0
    except OutputClosed as closed:
        return closed.exit_code
    except KlineagentError as error:
        click.echo(f"klineagent: {error}", err=True)
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort as abort:
        # click's word for Ctrl-C, too, and not only for a question that was answered with no.
        if isinstance(abort.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from abort
        click.echo("Aborted!", err=True)
        return 1
