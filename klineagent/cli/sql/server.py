"""SQL on a ClickHouse server, over the native protocol."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TextIO

import msgspec
from rich.markup import escape

from klineagent.cli.tables import plain_table, wide_console
from klineagent.storage.clickhouse.asyncio_thread import open_asyncio_thread
from klineagent.storage.clickhouse.connection import ServerConnection
from klineagent.storage.clickhouse.tables.schema import quoted
from klineagent.storage.url import ServerLocation

Columns = Sequence[tuple[str, str]]
"""The name and type of each column."""
Rows = Sequence[Sequence[Any]]


async def ask_server(server: ServerLocation, query: str, form: str, out: TextIO) -> None:
    """Run `query` on the server, and write its rows in `form`, one of `FORMS`.

    All rows are in memory before the first is written.

    Raises:
        StoreError: the server cannot be reached, or refused the query.
    """

    async def ask() -> tuple[Columns, Rows]:
        connection = ServerConnection(server)
        try:
            await connection.execute(f"USE {quoted(server.database)}")
            return await connection.ask(query)
        finally:
            connection.close()

    async with open_asyncio_thread("sql") as thread:
        columns, rows = await thread.run(ask)
    FORMS[form](columns, rows, out)


def _write_table(columns: Columns, rows: Rows, out: TextIO) -> None:
    if not columns:
        return
    is_number = [type_.startswith(("Int", "UInt", "Float", "Decimal")) for _, type_ in columns]
    table = plain_table("", [], [])
    for (name, _), right in zip(columns, is_number, strict=True):
        table.add_column(escape(name), no_wrap=True, justify="right" if right else "left")
    for row in rows:
        table.add_row(*(escape(_text(value)) for value in row))
    wide_console().print(table)


def _write_tsv(columns: Columns, rows: Rows, out: TextIO) -> None:
    if not columns:
        return
    lines: Rows = [[name for name, _ in columns], *rows]
    out.writelines("\t".join(map(_escaped, line)) + "\n" for line in lines)


def _write_csv(columns: Columns, rows: Rows, out: TextIO) -> None:
    if not columns:
        return
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([name for name, _ in columns])
    writer.writerows([_text(value) for value in row] for row in rows)


def _write_json(columns: Columns, rows: Rows, out: TextIO) -> None:
    document = {
        "meta": [{"name": name, "type": type_} for name, type_ in columns],
        "data": [_named(columns, row) for row in rows],
        "rows": len(rows),
    }
    out.write(msgspec.json.format(msgspec.json.encode(document, enc_hook=str)).decode() + "\n")


def _write_jsonl(columns: Columns, rows: Rows, out: TextIO) -> None:
    named = (_named(columns, row) for row in rows)
    out.writelines(msgspec.json.encode(each, enc_hook=str).decode() + "\n" for each in named)


def _named(columns: Columns, row: Sequence[Any]) -> dict[str, Any]:
    values = (_text(value) if isinstance(value, datetime) else value for value in row)
    return {name: value for (name, _), value in zip(columns, values, strict=True)}


def _text(value: object) -> str:
    """Write a value as ClickHouse does."""
    match value:
        case None:
            return "\\N"
        case bool():
            return str(value).lower()
        case datetime():
            moment = value.astimezone(UTC) if value.tzinfo else value
            return f"{moment:%Y-%m-%d %H:%M:%S}" + (
                f".{moment.microsecond // 1000:03}" if moment.microsecond else ""
            )
        case _:
            return str(value)


def _escaped(value: object) -> str:
    text = _text(value)
    if value is None:
        return text
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")


FORMS: Mapping[str, Callable[[Columns, Rows, TextIO], None]] = {
    "table": _write_table,
    "tsv": _write_tsv,
    "csv": _write_csv,
    "json": _write_json,
    "jsonl": _write_jsonl,
}
