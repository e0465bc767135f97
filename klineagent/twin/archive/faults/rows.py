"""Faults of rows, as the archive has had them: each takes a day's true rows and returns others.

Pure: the dice decide where they strike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from klineagent.twin.archive.text import FileRow
from klineagent.twin.interval import DAY_MS, SECOND_MS
from klineagent.twin.market.candle import Candle, flat

Distortion = Callable[[list[FileRow], Random], list[FileRow]]
"""A fault of rows: the true ones and the dice in, those of the file out."""

_OFF_GRID_MS = 14 * SECOND_MS
_MOST_OFF_GRID = 400
_MOST_IN_A_HOLE = 120
_WRONG_ROWS = 5
_MOST_DAYS_MISSING = 7


def off_grid(rows: list[FileRow], dice: Random) -> list[FileRow]:
    """Open and close some hundred rows 14 seconds late."""
    return _in_a_run(rows, dice, _MOST_OFF_GRID, lambda run: [_later(row) for row in run])


def cut_close(rows: list[FileRow], dice: Random) -> list[FileRow]:
    """Close one candle before its interval ends."""
    if not rows:
        return rows
    place = dice.randrange(len(rows))
    candle, close_ms = rows[place]
    cut_ms = dice.randrange(candle.open_time + 1, close_ms)
    return [*rows[:place], FileRow(candle, cut_ms), *rows[place + 1 :]]


def hole(rows: list[FileRow], dice: Random) -> list[FileRow]:
    """Leave out some rows that follow each other."""
    return _in_a_run(rows, dice, _MOST_IN_A_HOLE, lambda run: [])


def flat_rows(rows: list[FileRow], dice: Random) -> list[FileRow]:
    """Make some rows that follow each other flat, without volume."""
    return _in_a_run(rows, dice, _MOST_IN_A_HOLE, lambda run: [_without_trades(row) for row in run])


def wrong_volumes(rows: list[FileRow], dice: Random) -> list[FileRow]:
    """Write less volume and fewer trades in a few rows with trades."""
    return _in_some(rows, dice, _halved)


def impossible(rows: list[FileRow], dice: Random) -> list[FileRow]:
    """Make the high of a few rows lower than their low."""
    return _in_some(rows, dice, _upside_down)


def stale(rows: list[FileRow], _dice: Random) -> list[FileRow]:
    """Write other prices and volumes in every row, each consistent."""
    return [_as_before_revision(row) for row in rows]


def repeated(rows: list[FileRow], _dice: Random) -> list[FileRow]:
    """Repeat every row three times."""
    return [row for row in rows for _ in range(3)]


def unequal(rows: list[FileRow], _dice: Random) -> list[FileRow]:
    """Repeat every row with other values."""
    return [each for row in rows for each in (row, _as_before_revision(row))]


def unsorted(rows: list[FileRow], dice: Random) -> list[FileRow]:
    """Put the rows in any order."""
    return dice.sample(rows, len(rows))


def without_days(_rows: list[FileRow], _dice: Random) -> list[FileRow]:
    """Leave out all rows."""
    return []


def half(rows: list[FileRow], dice: Random) -> list[FileRow]:
    """End in the middle of the day."""
    return rows[: dice.randrange(1, len(rows))] if len(rows) > 1 else rows


def early_end(rows: list[FileRow], dice: Random) -> list[FileRow]:
    """End a month some days early."""
    if not rows:
        return rows
    last_day = rows[-1].candle.open_time // DAY_MS
    until = last_day - dice.randrange(_MOST_DAYS_MISSING)
    return [row for row in rows if row.candle.open_time // DAY_MS < until]


def _in_a_run(
    rows: list[FileRow],
    dice: Random,
    most: int,
    change: Callable[[Sequence[FileRow]], list[FileRow]],
) -> list[FileRow]:
    """Change a run of rows, at most half of them."""
    count = dice.randint(1, max(1, min(most, len(rows) // 2)))
    start = dice.randint(0, max(0, len(rows) - count))
    return [*rows[:start], *change(rows[start : start + count]), *rows[start + count :]]


def _in_some(
    rows: list[FileRow], dice: Random, change: Callable[[FileRow], FileRow]
) -> list[FileRow]:
    """Change a few of the rows with trades."""
    traded = [place for place, row in enumerate(rows) if row.candle.trades]
    chosen = set(dice.sample(traded, min(_WRONG_ROWS, len(traded))))
    return [change(row) if place in chosen else row for place, row in enumerate(rows)]


def _later(row: FileRow) -> FileRow:
    candle, close_ms = row
    later = candle._replace(open_time=candle.open_time + _OFF_GRID_MS)
    return FileRow(later, close_ms + _OFF_GRID_MS)


def _without_trades(row: FileRow) -> FileRow:
    return FileRow(flat(row.candle.open_time, row.candle.open), row.close_ms)


def _halved(row: FileRow) -> FileRow:
    candle = row.candle
    return row._replace(
        candle=candle._replace(
            volume=candle.volume // 2,
            quote_volume=candle.quote_volume // 2,
            trades=max(1, candle.trades // 2),
            taker_volume=candle.taker_volume // 2,
            taker_quote_volume=candle.taker_quote_volume // 2,
        )
    )


def _upside_down(row: FileRow) -> FileRow:
    candle = row.candle
    return row._replace(candle=candle._replace(high=candle.low, low=candle.high + 1))


def _as_before_revision(row: FileRow) -> FileRow:
    candle: Candle = row.candle
    return row._replace(
        candle=candle._replace(
            high=candle.high + 1, trades=candle.trades + 1, volume=candle.volume + 1
        )
    )
