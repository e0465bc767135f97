"""`klineagent spool list`, `retry` and `drop`: commands for rows kept on disk.

They work beside a running agent and take no lock: each of their steps renames or deletes one whole
file, and the agent expects files to come and go.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec
from rich.table import Table
from rich.text import Text

from klineagent.cli.options import CONFIG_FILE, SPOOL, STORE, VENUE
from klineagent.cli.tables import clock_text, plain_table, wide_console
from klineagent.config.loading import load_config
from klineagent.core.errors import ConfigError, SpoolError
from klineagent.process.logs import LogFormat, configure_logging
from klineagent.storage.spool.disk import Files, Folder, translated_errors
from klineagent.storage.spool.folders import SpoolFolders
from klineagent.storage.spool.inventory import DeadLetter, Queue, take_inventory
from klineagent.storage.spool.segment import SUFFIX, rows_of

_Command = TypeVar("_Command", bound=Callable[..., Any])

_NAMES: Callable[[_Command], _Command] = click.argument("names", nargs=-1, metavar="[NAME]...")


def _of_an_agent(command: _Command) -> _Command:
    """Add the options of `serve` that say where its spool is."""
    for option in (CONFIG_FILE, SPOOL, VENUE, STORE):
        command = option(command)
    return command


@click.group()
def spool() -> None:
    """Inspect and manage rows kept on disk: waiting, refused or damaged.

    Give the options, environment and configuration file the agent was started with; they say where
    its spool is.
    """
    configure_logging(LogFormat.CONSOLE)


@spool.command("list")
@_of_an_agent
@click.option("--json", "as_json", is_flag=True, help="Print JSON; times in milliseconds.")
def list_(file: Path | None, as_json: bool, **options: object) -> None:
    """Show waiting batches, dead letters (refused rows) and damaged files."""
    folder = _folder(file, options)
    with translated_errors(str(folder)):
        files, folders = _opened(folder)
        inventory = take_inventory(files, folders)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(inventory)))
        return
    click.echo(f"Spool {folder}")
    console = wide_console()
    console.print(queues_table(inventory.queues))
    if inventory.dead_letters:
        console.print(dead_letters_table(inventory.dead_letters))
    if inventory.quarantined:
        console.print(quarantine_table(inventory.quarantined))


@spool.command()
@_NAMES
@_of_an_agent
def retry(file: Path | None, names: tuple[str, ...], **options: object) -> None:
    """Send refused rows again: the dead letters called NAME, or all."""
    folder = _folder(file, options)
    with translated_errors(str(folder)):
        files, folders = _opened(folder)
        chosen = _chosen(folders, names)
        for name in chosen:
            batch = folders.retry(files, name)
            if batch is not None:
                click.echo(f"{shown(name)}: {len(batch.klines)} rows wait for {batch.table.value}")
    if not chosen:
        click.echo("there are no dead letters")


@spool.command()
@_NAMES
@_of_an_agent
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def drop(file: Path | None, names: tuple[str, ...], yes: bool, **options: object) -> None:
    """Delete the dead letters called NAME, or all."""
    folder = _folder(file, options)
    with translated_errors(str(folder)):
        files, folders = _opened(folder)
        chosen = _chosen(folders, names)
        rows = sum(map(rows_of, chosen))
        if chosen and not yes:
            click.confirm(f"Delete {len(chosen)} dead letters, {rows} rows, for good?", abort=True)
        for name in chosen:
            folders.dead.remove(files, name)
        click.echo(f"{len(chosen)} dead letters deleted, {rows} rows")


def queues_table(queues: Iterable[Queue]) -> Table:
    """Make a table of waiting batches, a line per database table."""
    table = plain_table("Waiting", ["table"], ["segments", "rows", "bytes"], ["oldest event"])
    for queue in queues:
        numbers = (queue.segments, queue.rows, queue.bytes)
        oldest = "" if queue.oldest_event is None else clock_text(queue.oldest_event)
        table.add_row(queue.table.value, *map(str, numbers), oldest)
    return table


def dead_letters_table(dead_letters: Iterable[DeadLetter]) -> Table:
    """Make a table of dead letters: what each holds, and why it was refused."""
    table = plain_table("Dead letters", ["name"], ["rows"])
    table.add_column("contents and reason")
    for letter in dead_letters:
        # Not as markup: a database's message may hold brackets.
        description = Text("\n".join(_description(letter)), overflow="fold")
        table.add_row(shown(letter.name), str(letter.rows), description)
    return table


def quarantine_table(names: Iterable[str]) -> Table:
    """Make a table of damaged files."""
    table = plain_table("Quarantine", ["file"], [])
    for name in names:
        table.add_row(Text(name))
    return table


def shown(name: str) -> str:
    """Return the name of a dead letter as users see it."""
    return name.removesuffix(SUFFIX)


def _description(letter: DeadLetter) -> Iterator[str]:
    if letter.table and letter.first_open is not None and letter.last_open is not None:
        first, *others = letter.series
        more = f" and {len(others)} more series" if others else ""
        yield f"{letter.table.value}: {first}{more}"
        yield f"{clock_text(letter.first_open)} to {clock_text(letter.last_open)}"
    yield letter.reason


def _folder(file: Path | None, options: Mapping[str, object]) -> Path:
    folder = load_config(options, os.environ, file).spool_folder
    if folder is None:
        raise ConfigError("these options give the agent no spool; name its folder with --spool")
    return folder


def _opened(path: Path) -> tuple[Files, SpoolFolders]:
    if not path.is_dir():
        raise SpoolError(f"there is no spool in {path}: no such folder")
    files, folders = Folder(path).files, SpoolFolders()
    for folder in folders.all:
        # A folder that does not exist yet holds nothing.
        with suppress(FileNotFoundError):
            folder.refresh(files)
    folders.refuse_newer(files)
    return files, folders


def _chosen(folders: SpoolFolders, names: Sequence[str]) -> list[str]:
    letters = folders.dead.names
    wanted = list(dict.fromkeys(f"{shown(name)}{SUFFIX}" for name in names))
    for name in wanted:
        if name not in letters:
            raise SpoolError(f"there is no dead letter {shown(name)}")
    return wanted or letters
