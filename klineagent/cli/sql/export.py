"""`klineagent export`: writes stored candles to a file."""
# ruff: noqa: S608 - every text goes through `literal`

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO

import click
from attrs import frozen

from klineagent.cli.options import VENUE
from klineagent.cli.remote.options import complete_symbols
from klineagent.cli.running import run
from klineagent.cli.sql.copying import copy_series
from klineagent.cli.sql.engine import SnapshotEngine, open_engine
from klineagent.cli.sql.selection import SeriesSelection, read_asked
from klineagent.cli.sql.snapshot import open_snapshot
from klineagent.cli.sql.source import Source, from_a_store, of_series
from klineagent.core.errors import ConfigError, OutputError
from klineagent.core.interval import Interval
from klineagent.core.kline import SeriesName
from klineagent.process.logs import LogFormat, configure_logging
from klineagent.storage.clickhouse.tables.schema import literal
from klineagent.storage.url import DEFAULT_DATABASE, ServerLocation

_FORMATS = {"parquet": "Parquet", "csv": "CSVWithNames", "arrow": "Arrow"}
_SETTINGS = "output_format_parquet_row_group_size = 100000"
"""Larger groups take more memory to write, and to read a part of."""


@click.command()
@click.argument(
    "names",
    nargs=-1,
    required=True,
    metavar="SYMBOL|PATTERN...",
    shell_complete=complete_symbols,
)
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="FILE")
@click.option(
    "--format",
    "form",
    type=click.Choice([*_FORMATS]),
    help="What to write.  [default: what FILE ends with]",
)
@of_series("Export candles that open")
@VENUE
@from_a_store
def export(
    names: Sequence[str],
    out: Path,
    form: str | None,
    *,
    intervals: Sequence[Interval],
    span: tuple[int, int],
    source: Source,
) -> None:
    """Write the closed candles of SYMBOLs, and of all symbols that match PATTERNs, to a file.

    They are sorted by venue, symbol, interval and open time. The file appears when it is whole, and
    replaces one of its name. It can be written while an agent records. Quote a PATTERN, as in
    '*USDT'; a name may have its venue, as in spot:BTCUSDT.
    """
    configure_logging(LogFormat.CONSOLE)
    form = form or out.suffix.removeprefix(".").lower()
    if form not in _FORMATS:
        raise ConfigError(f"--out {out}: it ends with none of {', '.join(_FORMATS)}; give --format")
    if not out.parent.is_dir():
        raise ConfigError(f"--out {out}: its folder does not exist")
    if out.exists() and not out.is_file():
        raise ConfigError(f"--out {out}: it is there and is no file")
    wanted = SeriesSelection(
        asked=read_asked(names, source.config.venue),
        intervals=intervals,
        first_ms=span[0],
        end_ms=span[1],
    )
    with _open_tables(source, wanted) as engine:
        _export(engine, wanted, out, _FORMATS[form])


@contextmanager
def _open_tables(source: Source, wanted: SeriesSelection) -> Iterator[SnapshotEngine]:
    """Open an engine with table `klines`, which has at least what is wanted."""
    location = source.location
    if isinstance(location, ServerLocation):
        with open_engine(None, "an export") as engine:
            run(partial(copy_series, location, engine.folder, wanted))
            engine.run(f"USE {DEFAULT_DATABASE}")
            yield engine
        return
    with (
        open_snapshot(source, location) as readable,
        open_engine(readable.frozen, readable.label) as engine,
    ):
        yield engine


def _export(engine: SnapshotEngine, wanted: SeriesSelection, out: Path, form: str) -> None:
    condition = _condition(wanted)
    stored = list(_stored(engine, condition))
    chosen = set(wanted.of(each.series for each in stored))
    exported = [each for each in stored if each.series in chosen]
    names = ", ".join(f"({', '.join(map(literal, series))})" for series in sorted(chosen))
    query = (
        "SELECT * EXCEPT (is_closed, version, inserted_at) FROM klines FINAL"
        f" WHERE {condition} AND (venue, symbol, interval) IN ({names})"
        " ORDER BY venue, symbol, interval, open_time"
        f" SETTINGS {_SETTINGS}"
    )
    with _replaced(out) as file:
        engine.write(query, form, file)
    candles = sum(each.candles for each in exported)
    click.echo(f"{candles} candles of {len(exported)} series in {out} ({out.stat().st_size} bytes)")
    for each in exported:
        if each.lacking:
            click.echo(
                f"{' '.join(each.series)}: {each.lacking} candles within its range are not stored;"
                " `klineagent coverage` says why",
                err=True,
            )


def _condition(wanted: SeriesSelection) -> str:
    first, end = (f"fromUnixTimestamp64Milli({ms})" for ms in (wanted.first_ms, wanted.end_ms))
    return f"is_closed AND open_time >= {first} AND open_time < {end}"


@frozen
class _Stored:
    series: SeriesName
    candles: int
    first_ms: int
    last_ms: int

    @property
    def lacking(self) -> int:
        """How many candles there are not between the first and the last."""
        interval = Interval(self.series[2])
        return max(0, interval.count(self.first_ms, self.last_ms) + 1 - self.candles)


def _stored(engine: SnapshotEngine, condition: str) -> Iterator[_Stored]:
    rows = engine.run(
        "SELECT venue, symbol, interval, count(), toUnixTimestamp64Milli(min(open_time)),"
        f" toUnixTimestamp64Milli(max(open_time)) FROM klines FINAL WHERE {condition}"
        " GROUP BY ALL ORDER BY ALL"
    )
    for line in rows.decode().splitlines():
        venue, symbol, interval, *numbers = line.split("\t")
        yield _Stored((venue, symbol, interval), *map(int, numbers))


@contextmanager
def _replaced(out: Path) -> Iterator[BinaryIO]:
    """Have a file that takes the place of `out` when the block ends, and goes if that fails.

    Raises:
        OutputError: it cannot be written.
    """
    beside = out.with_name(f".{out.name}.{secrets.token_hex(4)}.part")
    try:
        with beside.open("xb") as file:
            yield file
            os.fsync(file.fileno())
        beside.replace(out)
    except OSError as error:
        raise OutputError(f"cannot write {out}: {error.strerror}") from error
    finally:
        beside.unlink(missing_ok=True)
