"""The prompt of `klineagent sql`."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

import click

from klineagent.core.errors import KlineagentError, OutputError

with suppress(ImportError):  # it gives `input` its editing and history, where Python has it
    import readline  # noqa: F401 - importing is using

Answer = Callable[[str], None]
"""Runs a query and writes its rows; raises `KlineagentError`s."""

HELP = (
    "A query ends with its line; end a line with \\ to go on. `refresh` reads what was recorded"
    " since; `exit` or Ctrl-D leaves."
)


def prompt(answer: Answer) -> bool:
    """Answer queries from the terminal until the user leaves; return whether to refresh first."""
    while True:
        try:
            query = _read()
        except EOFError:
            click.echo()
            return False
        except KeyboardInterrupt:
            click.echo()
            continue
        match query.lower():
            case "":
                continue
            case "exit" | "quit" | "\\q":
                return False
            case "refresh":
                return True
        _tell(answer, query)


def _read() -> str:
    """Read a query.

    Raises:
        EOFError: the input has ended.
    """
    lines = [input("sql> ")]
    while lines[-1].endswith("\\"):
        lines[-1] = lines[-1].removesuffix("\\")
        lines.append(input("...> "))
    return "\n".join(lines).strip().rstrip("; ")


def _tell(answer: Answer, query: str) -> None:
    begun = time.monotonic()
    try:
        answer(query)
    except KeyboardInterrupt:
        click.echo("ended by Ctrl-C", err=True)
    except OutputError:
        raise
    except KlineagentError as error:
        click.echo(str(error), err=True)
    else:
        click.echo(f"{time.monotonic() - begun:.2f} s", err=True)
