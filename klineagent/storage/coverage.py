"""Where series have holes: the question as SQL, and what the answer says. Pure.

The database numbers the candles of a series along the grid of its interval, from the epoch on, and
makes 64 neighbours the bits of a word. Full words, which nearly all are, it tells as stretches, the
others one by one. So it sorts a 64th of the candles, and its answer is as long as there are holes.
"""
# ruff: noqa: S608 - every name goes through `quoted`, every text through `literal`

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from klineagent.kline import Interval
from klineagent.storage.queries import milliseconds
from klineagent.storage.runs import BY_LENGTH, GRIDS
from klineagent.storage.schema import Layout, Rows, literal, quoted
from klineagent.storage.store import Coverage, Table

Stretch = tuple[int, int]
"""First and last of numbers with none missing between."""

_WORD_BITS = 64
_FULL = f"toUInt64({2**_WORD_BITS - 1})"
# These are neighbours of no word there is.
_TOO_OLD = "toInt64(-2)"
_NONE = "toInt64(-4)"


def select_coverage(
    layout: Layout, venue: str, since: Mapping[str, int], symbols: Collection[str] | None
) -> str:
    """One row per series of `venue`, for `coverages`; `since` and `symbols` are not empty."""
    return _series(_words(_candles(layout, venue, since, symbols)))


def coverages(rows: Rows) -> list[Coverage]:
    """What the rows of a `select_coverage` say, by symbol and interval length."""
    return sorted(
        (_coverage(*row) for row in rows), key=lambda each: (each.symbol, BY_LENGTH[each.interval])
    )


def _candles(
    layout: Layout, venue: str, since: Mapping[str, int], symbols: Collection[str] | None
) -> str:
    """A row per state of a closed candle: which number it has, and whether it is asked for."""
    names = ", ".join(map(literal, since))

    def by_interval(value_of: Callable[[str], int]) -> str:
        values = ", ".join(f"toInt64({value_of(name):d})" for name in since)
        return f"transform(`interval`, [{names}], [{values}], toInt64(1))"

    opened = milliseconds("open_time", layout)
    ticking = "open_time" in layout.ticking
    date = "`open_time`" if ticking else "toDateTime(intDiv(`open_time`, 1000), 'UTC')"
    months = f"toInt64(toRelativeMonthNum({date})) - toRelativeMonthNum(toDateTime(0, 'UTC'))"
    age = f"({opened} - {by_interval(lambda name: GRIDS[name].origin_ms)})"
    step = by_interval(lambda name: GRIDS[name].step_ms)
    among = "" if symbols is None else f" AND `symbol` IN ({', '.join(map(literal, symbols))})"
    # Without FINAL, which costs more: a closed state outranks the forming ones of its candle, so
    # one of them is enough, and a second one sets the same bit.
    return (
        f"SELECT `symbol`, `interval`, {opened} AS `opened`,"
        f" `opened` >= {by_interval(since.__getitem__)} AS `wanted`,"
        f" if(`interval` = '1M', {months}, intDiv({age}, {step})) AS `number`"
        f" FROM {quoted(layout.database)}.{Table.KLINES.value}"
        f" WHERE `venue` = {literal(venue)} AND `interval` IN ({names}){among} AND `is_closed`"
        f" AND {age} % {step} = 0 AND (`interval` != '1M' OR toDayOfMonth({date}) = 1)"
    )


def _words(candles: str) -> str:
    """A row per series and word; all candles that are too old are one word."""
    bit = f"bitShiftLeft(toUInt64(1), toUInt8(`number` % {_WORD_BITS}))"
    return (
        "SELECT `symbol`, `interval`,"
        f" if(`wanted`, intDiv(`number`, {_WORD_BITS}), {_TOO_OLD}) AS `word`,"
        f" groupBitOr({bit}) AS `bits`, min(`opened`) AS `oldest`, max(`opened`) AS `newest`"
        f" FROM ({candles}) GROUP BY `symbol`, `interval`, `word`"
    )


def _series(words: str) -> str:
    """A row per series, as `_coverage` takes it."""
    wanted = f"`word` != {_TOO_OLD}"
    series = (
        "SELECT `symbol`, `interval`, min(`oldest`) AS `first`, max(`newest`) AS `last`,"
        f" arraySort(groupArrayIf(`word`, {wanted} AND `bits` = {_FULL})) AS `full`,"
        f" groupArrayIf((`word`, `bits`), {wanted} AND `bits` != {_FULL}) AS `broken`"
        f" FROM ({words}) GROUP BY `symbol`, `interval`"
    )
    before = f"arrayPopBack(arrayPushFront(`full`, {_NONE}))"
    after = f"arrayPopFront(arrayPushBack(`full`, {_NONE}))"
    return (
        "SELECT `symbol`, `interval`, `first`, `last`,"
        f" arrayFilter((word, other) -> word - other != 1, `full`, {before}),"
        f" arrayFilter((word, other) -> other - word != 1, `full`, {after}), `broken`"
        f" FROM ({series})"
    )


def _coverage(
    symbol: str,
    name: str,
    first_open: int,
    last_open: int,
    begins: Sequence[int],
    ends: Sequence[int],
    broken: Iterable[Sequence[Any]],
) -> Coverage:
    """What one row says.

    Args:
        symbol: of the series.
        name: its interval's.
        first_open: the oldest candle's open time.
        last_open: the newest candle's.
        begins: the words where stretches of full ones begin.
        ends: where these stretches end.
        broken: every other word with its bits.
    """
    interval = Interval(name)
    stretches = [
        (begin * _WORD_BITS, (end + 1) * _WORD_BITS - 1)
        for begin, end in zip(begins, ends, strict=True)
    ]
    stretches += [stretch for word, bits in broken for stretch in _stretches(word, bits)]
    origin_ms = GRIDS[name].origin_ms
    runs = tuple(
        (interval.shifted(origin_ms, first), interval.shifted(origin_ms, last))
        for first, last in _joined(sorted(stretches))
    )
    return Coverage(symbol, name, first_open, last_open, runs)


def _stretches(word: int, bits: int) -> Iterator[Stretch]:
    """The numbers that have their bit set in `word`."""
    number = word * _WORD_BITS
    while bits:
        absent = (bits & -bits).bit_length() - 1
        bits >>= absent
        present = (~bits & (bits + 1)).bit_length() - 1
        bits >>= present
        yield number + absent, number + absent + present - 1
        number += absent + present


def _joined(stretches: Iterable[Stretch]) -> list[Stretch]:
    """Ascending stretches, those that meet made one."""
    joined: list[Stretch] = []
    for first, last in stretches:
        if joined and joined[-1][1] + 1 == first:
            joined[-1] = (joined[-1][0], last)
        else:
            joined.append((first, last))
    return joined
