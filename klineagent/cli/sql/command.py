"""`klineagent sql`: answers queries about what is stored."""

from __future__ import annotations

import sys
from functools import partial

import click

from klineagent.cli.running import run
from klineagent.cli.sql.engine import open_engine
from klineagent.cli.sql.prompt import HELP, Answer, prompt
from klineagent.cli.sql.server import FORMS, ask_server
from klineagent.cli.sql.snapshot import open_snapshot
from klineagent.cli.sql.source import Source, from_a_store
from klineagent.core.errors import ConfigError
from klineagent.process.logs import LogFormat, configure_logging
from klineagent.storage.url import FolderLocation, ServerLocation

_ENGINE_FORMS = {
    "table": "PrettyCompact",
    "tsv": "TabSeparatedWithNames",
    "csv": "CSVWithNames",
    "json": "JSON",
    "jsonl": "JSONEachRow",
}
"""ClickHouse's names of formats that have a shorter one."""


@click.command()
@click.argument("text", required=False, metavar="[QUERY]")
@click.option(
    "--format",
    "form",
    metavar="FORMAT",
    help="table, csv, tsv, json, jsonl, or any format of ClickHouse."
    "  [default: table on a terminal, otherwise tsv]",
)
@from_a_store
def sql(text: str | None, form: str | None, *, source: Source) -> None:
    """Answer QUERY in SQL, also while an agent records; without QUERY, ask for queries.

    Tables are klines_final (closed candles, the newest state of each), klines and, with serve
    --updates, kline_updates. An embedded database is read in a snapshot, which no query can harm;
    queries to a server run there. QUERY may come from standard input as well.
    """
    configure_logging(LogFormat.CONSOLE)
    is_prompt = text is None and sys.stdin.isatty()
    form = form or ("table" if sys.stdout.isatty() else "tsv")
    if is_prompt:
        click.echo(HELP)
    elif text in {None, "-"}:
        text = sys.stdin.read()
    if text is not None and not (text := text.strip().rstrip("; \n\t")):
        raise ConfigError("QUERY is empty")
    if isinstance(source.location, ServerLocation):
        _on_server(source.location, text, form)
    else:
        _on_snapshots(source.location, source, text, form)


def _on_server(server: ServerLocation, text: str | None, form: str) -> None:
    if form not in FORMS:
        raise ConfigError(f"--format {form}: a server's rows are written as {', '.join(FORMS)}")

    def answer(query: str) -> None:
        run(partial(ask_server, server, query, form, sys.stdout))

    if text is not None:
        answer(text)
        return
    click.echo(f"Connected to {server.label}.")
    while prompt(answer):
        pass  # a server's tables are always fresh


def _on_snapshots(folder: FolderLocation, source: Source, text: str | None, form: str) -> None:
    form = _ENGINE_FORMS.get(form, form)
    if not form.isalnum():
        raise ConfigError(f"--format {form}: there is no such format")
    is_over = False
    while not is_over:
        with (
            open_snapshot(source, folder) as readable,
            open_engine(readable.frozen, readable.label) as engine,
        ):
            answer: Answer = partial(engine.write, form=form, out=sys.stdout.buffer)
            if text is not None:
                answer(text)
                return
            click.echo(f"{readable.label} as of {readable.as_of or 'now'}")
            is_over = not prompt(answer)
