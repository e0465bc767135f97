"""Finds the runs of stored candles of each series, and thereby its gaps, by SQL. Pure.

The database numbers the candles of a series on the grid of its interval, from the epoch on, and
packs 64 neighbours into the bits of a word. Full words, nearly all of them, are returned as ranges,
the others one by one. So it sorts a 64th of the candles, and its answer grows with the gaps only.

All conditions are on venue, symbol, interval and open time, so that primary key and partitions
bound what is read and what FINAL merges: a candle counts as stored if `klines_final` has it.
"""
# ruff: noqa: S608 - every name goes through `quoted`, every text through `literal`

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any

from klineagent.core.interval import BY_LENGTH, DAY_MS, GRIDS, Interval, Run, runs_begin_at
from klineagent.storage.clickhouse.queries import milliseconds, moment
from klineagent.storage.clickhouse.tables.schema import Layout, Rows, literal, quoted
from klineagent.storage.store import SeriesRuns, Table

_Series = tuple[str, str]
"""Symbol and the name of an interval."""
_Stretch = tuple[int, int]
"""First and last of consecutive numbers."""

_WORD_BITS = 64
_FULL = f"toUInt64({2**_WORD_BITS - 1})"
# Not a neighbour of any word.
_NONE = "toInt64(-4)"
# How far back the newest candle before a range is searched for, step by step: nearly always it is
# near, and searching all history at once would read all of it.
_LOOKING_BACK_MS = (31 * DAY_MS, 366 * DAY_MS, 2**42)


def covering(
    layout: Layout, venue: str, since: Mapping[str, int], symbols: Collection[str]
) -> Generator[str, Rows, list[SeriesRuns]]:
    """Run `Store.coverage` in steps: yield SQL, receive its rows, return the result."""
    if not since or not symbols:
        return []
    bounds = {name: (first_ms, None) for name, first_ms in since.items()}
    runs: dict[_Series, tuple[Run, ...]] = {}
    for symbol, name, *row in (yield _select_runs(layout, venue, bounds, symbols)):
        runs[symbol, name] = _runs(name, *row)
    before: dict[_Series, int] = {}
    for name, first_ms in since.items():
        wanted = {
            symbol
            for symbol in symbols
            if not runs_begin_at(runs.get((symbol, name), ()), first_ms, name)
        }
        end_ms = first_ms
        for far_ms in _LOOKING_BACK_MS:
            if not wanted or end_ms <= 0:
                break
            start_ms = max(0, first_ms - far_ms)
            for symbol, newest_ms in (
                yield _select_newest(layout, venue, name, (start_ms, end_ms), wanted)
            ):
                before[symbol, name] = newest_ms
                wanted.remove(symbol)
            end_ms = start_ms
    found = (
        SeriesRuns(*series, before.get(series), runs.get(series, ()))
        for series in runs.keys() | before.keys()
    )
    return sorted(found, key=lambda each: (each.symbol, BY_LENGTH[each.interval]))


def finding_runs(
    layout: Layout, venue: str, symbol: str, interval: str, first_ms: int, end_ms: int
) -> Generator[str, Rows, tuple[Run, ...]]:
    """Run `Store.stored_runs` in steps, like `covering`."""
    rows = yield _select_runs(layout, venue, {interval: (first_ms, end_ms)}, [symbol])
    return _runs(interval, *rows[0][2:]) if rows else ()


_Bounds = Mapping[str, tuple[int, int | None]]
"""By interval, the first open time and the end, which is not included."""


def _select_runs(layout: Layout, venue: str, bounds: _Bounds, symbols: Collection[str]) -> str:
    """Make a query with a row per series: symbol, interval, and the arguments of `_runs`."""
    return _series(_words(_candles(layout, venue, bounds, symbols)))


def _select_newest(
    layout: Layout, venue: str, name: str, bounds: tuple[int, int], symbols: Collection[str]
) -> str:
    """Make a query for symbol and open time of each series' newest candle within `bounds`."""
    candles = _candles(layout, venue, {name: bounds}, symbols)
    return f"SELECT `symbol`, max(`opened`) FROM ({candles}) GROUP BY `symbol`"


def _candles(layout: Layout, venue: str, bounds: _Bounds, symbols: Collection[str]) -> str:
    """Make a query with a row per closed candle on the grid: series, open time and number."""
    names = ", ".join(map(literal, bounds))

    def by_interval(value_of: Callable[[str], int]) -> str:
        values = ", ".join(f"toInt64({value_of(name):d})" for name in bounds)
        return f"transform(`interval`, [{names}], [{values}], toInt64(1))"

    opened = milliseconds("open_time", layout)
    ticking = "open_time" in layout.ticking
    date = "`open_time`" if ticking else "toDateTime(intDiv(`open_time`, 1000), 'UTC')"
    months = f"toInt64(toRelativeMonthNum({date})) - toRelativeMonthNum(toDateTime(0, 'UTC'))"
    age = f"({opened} - {by_interval(lambda name: GRIDS[name].origin_ms)})"
    step = by_interval(lambda name: GRIDS[name].step_ms)
    among = ", ".join(map(literal, sorted(symbols)))
    within = " OR ".join(_within(layout, name, *bound) for name, bound in bounds.items())
    return (
        f"SELECT `symbol`, `interval`, {opened} AS `opened`,"
        f" if(`interval` = '1M', {months}, intDiv({age}, {step})) AS `number`"
        f" FROM {quoted(layout.database)}.{Table.KLINES.value} FINAL"
        f" WHERE `venue` = {literal(venue)} AND `symbol` IN ({among}) AND ({within})"
        f" AND `is_closed` AND {age} % {step} = 0"
        f" AND (`interval` != '1M' OR toDayOfMonth({date}) = 1)"
    )


def _within(layout: Layout, name: str, first_ms: int, end_ms: int | None) -> str:
    """Make the condition that a candle of interval `name` opens in [`first_ms`, `end_ms`)."""
    condition = f"`interval` = {literal(name)}"
    # The column itself is compared, not its milliseconds, so that the index finds the rows.
    condition += f" AND `open_time` >= {moment('open_time', first_ms, layout)}"
    if end_ms is not None:
        condition += f" AND `open_time` < {moment('open_time', end_ms, layout)}"
    return f"({condition})"


def _words(candles: str) -> str:
    """Make a query with a row per series and word."""
    bit = f"bitShiftLeft(toUInt64(1), toUInt8(`number` % {_WORD_BITS}))"
    return (
        f"SELECT `symbol`, `interval`, intDiv(`number`, {_WORD_BITS}) AS `word`,"
        f" groupBitOr({bit}) AS `bits` FROM ({candles}) GROUP BY `symbol`, `interval`, `word`"
    )


def _series(words: str) -> str:
    """Make a query with a row per series of `words`: symbol, interval, and arguments of `_runs`."""
    series = (
        "SELECT `symbol`, `interval`,"
        f" arraySort(groupArrayIf(`word`, `bits` = {_FULL})) AS `full`,"
        f" groupArrayIf((`word`, `bits`), `bits` != {_FULL}) AS `broken`"
        f" FROM ({words}) GROUP BY `symbol`, `interval`"
    )
    before = f"arrayPopBack(arrayPushFront(`full`, {_NONE}))"
    after = f"arrayPopFront(arrayPushBack(`full`, {_NONE}))"
    return (
        "SELECT `symbol`, `interval`,"
        f" arrayFilter((word, other) -> word - other != 1, `full`, {before}),"
        f" arrayFilter((word, other) -> other - word != 1, `full`, {after}), `broken`"
        f" FROM ({series})"
    )


def _runs(
    name: str, begins: Sequence[int], ends: Sequence[int], broken: Iterable[Sequence[Any]]
) -> tuple[Run, ...]:
    """Convert one row of a series to runs.

    Args:
        name: the interval's name.
        begins: the first words of each range of full words.
        ends: the last words of these ranges.
        broken: all other words, with their bits.
    """
    interval = Interval(name)
    stretches = [
        (begin * _WORD_BITS, (end + 1) * _WORD_BITS - 1)
        for begin, end in zip(begins, ends, strict=True)
    ]
    stretches += [stretch for word, bits in broken for stretch in _stretches(word, bits)]
    origin_ms = GRIDS[name].origin_ms
    return tuple(
        (interval.shifted(origin_ms, first), interval.shifted(origin_ms, last))
        for first, last in _joined(sorted(stretches))
    )


def _stretches(word: int, bits: int) -> Iterator[_Stretch]:
    """Iterate over the ranges of numbers whose bits are set in `word`."""
    number = word * _WORD_BITS
    while bits:
        absent = (bits & -bits).bit_length() - 1
        bits >>= absent
        present = (~bits & (bits + 1)).bit_length() - 1
        bits >>= present
        yield number + absent, number + absent + present - 1
        number += absent + present


def _joined(stretches: Iterable[_Stretch]) -> list[_Stretch]:
    """Join adjacent ranges of `stretches`, which must ascend."""
    joined: list[_Stretch] = []
    for first, last in stretches:
        if joined and joined[-1][1] + 1 == first:
            joined[-1] = (joined[-1][0], last)
        else:
            joined.append((first, last))
    return joined
