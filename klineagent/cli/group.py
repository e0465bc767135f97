"""The commands by name: where each is, and the first sentence of its help."""

from __future__ import annotations

import os
from importlib import import_module

import click
from attrs import fields_dict

from klineagent import __version__
from klineagent.cli.output import checked_output
from klineagent.core.errors import KlineagentError, OutputClosed
from klineagent.core.interrupts import deadly_interrupts


class LaterCommand(click.Command):
    """A command that is imported when it is called; only its name and its help line are known."""

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
        "Run the agent: record SYMBOLs, and those added later, until SIGINT or SIGTERM.",
    ),
    LaterCommand(
        "config",
        "klineagent.cli.config:config_group",
        "Inspect the configuration.",
    ),
    LaterCommand(
        "show",
        "klineagent.cli.show:show",
        "Show what is stored: all series, or the newest closed candles of SYMBOL at INTERVAL.",
    ),
    LaterCommand(
        "sql",
        "klineagent.cli.sql.command:sql",
        "Answer QUERY in SQL, also while an agent records; without QUERY, ask for queries.",
    ),
    LaterCommand(
        "export",
        "klineagent.cli.sql.export:export",
        "Write the closed candles of SYMBOLs, and of all symbols that match PATTERNs, to a file.",
    ),
    LaterCommand(
        "import",
        "klineagent.cli.history.importing:import_",
        "Import the past of SYMBOLs, and of all symbols that match PATTERNs, from the archive.",
    ),
    LaterCommand(
        "audit",
        "klineagent.cli.history.auditing:audit",
        "Compare what is stored with the files that were imported, day by day and without a"
        " download.",
    ),
    LaterCommand(
        "spool",
        "klineagent.cli.spool:spool",
        "Inspect and manage rows kept on disk: waiting, refused or damaged.",
    ),
    LaterCommand("status", f"{_CLIENT}:status", "Show the state of a running agent."),
    LaterCommand("list", f"{_CLIENT}:list_", "List the running streams: symbols and intervals."),
    LaterCommand(
        "add", f"{_CLIENT}:add", "Start recording SYMBOLs, and all symbols that match PATTERNs."
    ),
    LaterCommand(
        "remove",
        f"{_CLIENT}:remove",
        "Stop recording SYMBOLs, and all symbols that match PATTERNs.",
    ),
    LaterCommand(
        "coverage",
        f"{_CLIENT}:coverage",
        "Show how complete each series is: what is stored, what is missing, and why.",
    ),
    LaterCommand(
        "why",
        f"{_CLIENT}:why",
        "Explain one candle: where it is, or why it is missing.",
    ),
    LaterCommand(
        "limits",
        f"{_CLIENT}:limits",
        "Show the exchange's rate limits and how much of each is used.",
    ),
    LaterCommand("feeds", f"{_CLIENT}:feeds", "List the websocket connections to the exchange."),
    LaterCommand(
        "watch",
        f"{_CLIENT}:watch",
        "Watch a running agent: totals, connections, lagging series, events; q quits.",
    ),
    LaterCommand(
        "jobs",
        "klineagent.cli.remote.jobs:jobs",
        "List the jobs of a running agent; pause, resume and cancel them.",
    ),
    LaterCommand(
        "simulate",
        "klineagent.cli.simulate:simulate",
        "Run a simulated exchange: websocket and REST on one port, or on one for each venue.",
    ),
    LaterCommand(
        "demo",
        "klineagent.cli.demo:demo",
        "Try it all in one process: simulated exchange, agent and database.",
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
    """Warn about KLINEAGENT_ variables that are no setting.

    They are no error: Kubernetes makes some for a service whose name begins with ours.
    """
    with deadly_interrupts():
        from klineagent.config.model import Config
        from klineagent.config.sources import unknown_variables
    for line in unknown_variables(os.environ, fields_dict(Config)):
        click.echo(f"klineagent: {line}", err=True)


def run_command() -> int:
    """Run the command that was typed; returns its exit code.

    An error the user can do something about is printed as one line.

    Raises:
        KeyboardInterrupt: Ctrl-C ended the command.
    """
    try:
        with checked_output():
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
        # click raises this for Ctrl-C as well as for a question that was answered with no.
        if isinstance(abort.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from abort
        click.echo("Aborted!", err=True)
        return 1
