"""The way of a unit of files into table `klines`, as SQL for the engine. Pure.

The engine parses each file once, into a temporary table of the session. There the rows are checked;
then those of files that are not refused go into `klines` by one insert.
"""
# ruff: noqa: S608 - every name goes through `quoted`, every text through `literal`

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from attrs import field, frozen

from klineagent.core.interval import DAY_MS, GRIDS, Interval
from klineagent.core.kline import Kline
from klineagent.storage.clickhouse.queries import insert_klines, milliseconds, moment
from klineagent.storage.clickhouse.tables.schema import Layout, Rows, literal, quoted
from klineagent.storage.digests import DIGESTED, digest_sql
from klineagent.storage.history import FileFacts, Unit
from klineagent.storage.store import Table

STAGE = "imported_unit"
"""The temporary table."""
_VALUES = ", ".join(map(quoted, DIGESTED))
_STRUCTURE = (
    "`opened` Int64, `open` Float64, `high` Float64, `low` Float64, `close` Float64,"
    " `volume` Float64, `closed` Int64, `quote_volume` Float64, `trades` Int64,"
    " `taker_buy_volume` Float64, `taker_buy_quote_volume` Float64, `ignored` String"
)
"""The columns of the archive's files, in their order."""
_STAGED = (
    "`file` UInt32, `opened` Int64, `open` Float64, `high` Float64, `low` Float64,"
    " `close` Float64, `volume` Float64, `quote_volume` Float64, `trades` Int64,"
    " `taker_buy_volume` Float64, `taker_buy_quote_volume` Float64"
)
# Spot files are in microseconds since 2025; in milliseconds this is the year 5138.
_MICROSECONDS_FROM = 100_000_000_000_000
# The exchange sums the takers' volume apart from the total, and may round both.
_ROUNDED = "* (1 + 1e-9) + 1e-9"
_SETTINGS = {
    # Off before 26.7: then one value in a hundred is one bit away from what REST and streams say.
    "precise_float_parsing": 1,
    # A value that is missing is an error, not a zero.
    "input_format_csv_empty_as_default": 0,
    # Two gain nothing with files this small, and leave the other core to others.
    "max_threads": 1,
    "input_format_parallel_parsing": 0,
}
_INSERT_THREADS = 1
NAME_DIGITS = 5


def name_of(number: int) -> str:
    """Return the name of the file with `number` in its unit while the engine reads it."""
    return f"{number:0{NAME_DIGITS}}.csv.gz"


def clearing() -> list[str]:
    """Make an empty stage."""
    return [
        f"DROP TEMPORARY TABLE IF EXISTS {STAGE}",
        f"CREATE TEMPORARY TABLE {STAGE} ({_STAGED}) ENGINE = Memory",
    ]


def parsing(path: Path, *, has_header: bool) -> str:
    """Parse the files that `path`, which may have an asterisk, names."""
    settings = {**_SETTINGS, "input_format_csv_skip_first_lines": int(has_header)}
    pairs = ", ".join(f"{name} = {value}" for name, value in settings.items())
    opened = f"if(`opened` >= {_MICROSECONDS_FROM}, intDiv(`opened`, 1000), `opened`)"
    return (
        f"INSERT INTO {STAGE} SELECT toUInt32(substring(_file, 1, {NAME_DIGITS})), {opened},"
        f" {_VALUES} FROM file({literal(str(path))}, CSV, {literal(_STRUCTURE)}) SETTINGS {pairs}"
    )


def without_repeats() -> list[str]:
    """Let equal rows be one."""
    beside = f"{STAGE}_distinct"
    return [
        f"DROP TEMPORARY TABLE IF EXISTS {beside}",
        f"CREATE TEMPORARY TABLE {beside} ENGINE = Memory AS SELECT DISTINCT * FROM {STAGE}",
        *clearing(),
        f"INSERT INTO {STAGE} SELECT * FROM {beside}",
        f"DROP TEMPORARY TABLE {beside}",
    ]


@frozen
class UnitQueries:
    """The queries about one unit."""

    layout: Layout
    unit: Unit
    _interval: Interval = field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "_interval", Interval(self.unit.interval))

    def facts(self) -> str:
        """Make a query with a row for each file and day; see `facts_of`."""
        ok = self._is_stored()
        return (
            f"SELECT `file`, intDiv(`opened`, {DAY_MS}), toUInt64(count()),"
            f" toUInt64(countIf({ok})), toUInt64(uniqExactIf(`opened`, {ok})),"
            f" toUInt64(countIf(NOT {self._is_inside()})),"
            f" toUInt64(countIf(NOT {_possible()})),"
            f" minIf(`opened`, {ok}), maxIf(`opened`, {ok}),"
            f" sumIf({digest_sql('opened')}, {ok})"
            f" FROM {STAGE} GROUP BY 1, 2"
        )

    def stored_before(self) -> str:
        """Count the rows in `klines` where rows of this unit go; nearly always there are none."""
        return f"SELECT count() FROM {self._klines()} WHERE {self._range()}"

    def storing(self, files: Collection[int], *, is_first: bool) -> str:
        """Make the insert of the candles in `files`; `is_first` if nothing is stored there yet.

        A candle that is stored as closed is left out. One that is stored as forming, however late
        its state came, is outranked.
        """
        closed = self._close()
        least = f"toUInt64({closed} + 1) * 2"
        columns = {
            "venue": literal(self.unit.venue),
            "symbol": "`name`",
            "interval": literal(self.unit.interval),
            "open_time": self._moment("`opened`"),
            "close_time": self._moment(closed),
            "first_trade_id": "-1",
            "last_trade_id": "-1",
            "is_closed": "1",
            "event_time": self._moment(f"({closed} + 1)"),
            "version": least if is_first else f"greatest({least}, `top` + 1)",
            "source": "'archive'",
        }
        values = ", ".join(columns.get(name, quoted(name)) for name in Kline._fields)
        return (
            f"{insert_klines(self.layout, Table.KLINES)} SELECT {values}"
            f" FROM {self._not_stored(files, is_first=is_first)}"
            f" SETTINGS max_threads = 1, max_insert_threads = {_INSERT_THREADS},"
            f" max_partitions_per_insert_block = 1000"
        )

    def not_stored(self, files: Collection[int]) -> str:
        """Count the candles in `files` that are not stored as closed, a row for each file."""
        return (
            f"SELECT `file`, count() FROM {self._not_stored(files, is_first=False)} GROUP BY `file`"
        )

    def closed_days(self, symbols: Iterable[str]) -> str:
        """Count closed candles by symbol and day where rows of this unit are stored."""
        opened = milliseconds("open_time", self.layout)
        return (
            f"SELECT `symbol`, intDiv({opened}, {DAY_MS}) AS `day`, toUInt64(count())"
            f" FROM {self._klines()} FINAL WHERE {self._range()} AND `is_closed`"
            f" AND `symbol` IN ({', '.join(map(literal, sorted(symbols)))}) GROUP BY 1, 2"
        )

    def _not_stored(self, files: Collection[int], *, is_first: bool) -> str:
        among = ", ".join(map(str, sorted(files)))
        name = self._by_file(literal(each.symbol) for each in self.unit.files)
        rows = (
            f"(SELECT *, {name} AS `name` FROM {STAGE}"
            f" WHERE `file` IN ({among}) AND {self._is_stored()})"
        )
        if is_first:
            return rows
        # Not FINAL: the highest version of each candle says the same, and is wanted anyway.
        states = (
            f"(SELECT toString(`symbol`) AS `stored_symbol`,"
            f" {milliseconds('open_time', self.layout)} AS `stored_open`,"
            " max(`version`) AS `top`, argMax(`is_closed`, `version`) AS `is_over`"
            f" FROM {self._klines()} WHERE {self._range()} GROUP BY 1, 2)"
        )
        return (
            f"(SELECT * FROM {rows} AS `new` LEFT JOIN {states} AS `old`"
            " ON `new`.`name` = `old`.`stored_symbol` AND `new`.`opened` = `old`.`stored_open`"
            " WHERE NOT `is_over`)"
        )

    def _klines(self) -> str:
        return f"{quoted(self.layout.database)}.{Table.KLINES.value}"

    def _range(self) -> str:
        files = self.unit.files
        symbols = ", ".join(map(literal, sorted({each.symbol for each in files})))
        first_ms = min(each.first_ms for each in files)
        end_ms = max(each.end_ms for each in files)
        return (
            f"`venue` = {literal(self.unit.venue)} AND `symbol` IN ({symbols})"
            f" AND `interval` = {literal(self.unit.interval)}"
            f" AND `open_time` >= {moment('open_time', first_ms, self.layout)}"
            f" AND `open_time` < {moment('open_time', end_ms, self.layout)}"
        )

    def _is_inside(self) -> str:
        first = self._by_file(str(each.first_ms) for each in self.unit.files)
        end = self._by_file(str(each.end_ms) for each in self.unit.files)
        return f"(`opened` >= {first} AND `opened` < {end})"

    def _is_stored(self) -> str:
        return f"({self._is_inside()} AND {self._is_on_grid()})"

    def _is_on_grid(self) -> str:
        grid = GRIDS[self.unit.interval]
        if self._interval is Interval.MO1:
            # A file has one month, so its only candle opens with it.
            return f"`opened` = {self._by_file(str(each.first_ms) for each in self.unit.files)}"
        return f"(`opened` - {grid.origin_ms}) % {grid.step_ms} = 0"

    def _close(self) -> str:
        # The regular one, also of a candle that was cut short: see `docs/history.md`.
        if self._interval is Interval.MO1:
            return f"({self._by_file(str(each.end_ms) for each in self.unit.files)} - 1)"
        return f"(`opened` + {GRIDS[self.unit.interval].step_ms - 1})"

    def _by_file(self, values: Iterable[str]) -> str:
        """Make an expression for the value that belongs to a row's file."""
        texts = [*values]
        if len({*texts}) == 1:
            return texts[0]
        return f"arrayElement([{', '.join(texts)}], `file` + 1)"

    def _moment(self, milliseconds_: str) -> str:
        if "open_time" in self.layout.ticking:
            return f"fromUnixTimestamp64Milli({milliseconds_}, 'UTC')"
        return milliseconds_


def _possible() -> str:
    """Make the condition that a row's numbers can be those of a candle.

    No comparison with NaN is true.
    """
    return (
        "(`low` >= 0 AND `low` <= least(`open`, `close`) AND greatest(`open`, `close`) <= `high`"
        " AND isFinite(`high`) AND isFinite(`volume`) AND isFinite(`quote_volume`)"
        f" AND `taker_buy_volume` >= 0 AND `taker_buy_volume` <= `volume` {_ROUNDED}"
        " AND `taker_buy_quote_volume` >= 0"
        f" AND `taker_buy_quote_volume` <= `quote_volume` {_ROUNDED}"
        f" AND `trades` >= 0 AND `trades` < {2**32})"
    )


def has_repeats(rows: Rows) -> bool:
    """Whether, by the rows of `facts`, open times stand more than once in a file."""
    return any(stored != distinct for _, _, _, stored, distinct, *_ in rows)


def facts_of(rows: Rows, before: Rows) -> dict[int, FileFacts]:
    """Gather the rows of `facts` by file; `before` are those before repeats became one."""
    counts: dict[int, int] = defaultdict(int)
    for file, _, count, *_ in before:
        counts[file] += count
    by_file: dict[int, list[Sequence[int]]] = defaultdict(list)
    for file, *row in rows:
        by_file[file].append(row)
    return {file: _facts(days, counts[file]) for file, days in by_file.items()}


def _facts(days: Sequence[Sequence[int]], counted: int) -> FileFacts:
    count, stored, distinct, outside, impossible = (
        sum(row[column] for row in days) for column in (1, 2, 3, 4, 5)
    )
    with_rows = [row for row in days if row[3]]
    return FileFacts(
        rows=distinct,
        duplicates=counted - count,
        conflicts=stored - distinct,
        outside=outside,
        off_grid=count - stored - outside,
        impossible=impossible,
        first_open=min((row[6] for row in with_rows), default=0),
        last_open=max((row[7] for row in with_rows), default=0),
        days={row[0]: (row[3], row[8]) for row in with_rows},
    )
