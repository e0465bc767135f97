"""Lies in REST answers: each takes the content of an answer and returns another. Pure.

As with events, only lies that a client can detect: see `klineagent.twin.faults.lies`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

from attrs import define, field

from klineagent.twin.faults.events import Chance

Query = Mapping[str, str]
Lie = Callable[[Any, Query], Any]
"""A lie in answers: the content and the query in, the content to send out."""

Row = list[Any]
_OPEN, _HIGH, _LOW, _VOLUME, _CLOSE_TIME = 0, 2, 3, 5, 6
_MICROSECONDS = 1_000
_IN_MICROSECONDS = 1_569_398_400_000_000
_SECOND_MS = 1_000
# No two wrong times of one block agree, and none agrees with the wrong times of events: these are
# 35 seconds past a minute, those are not. A client would have to believe two sources that agree.
_WRONG_BY_MINUTES = range(1, 4 * 24 * 60)
_WRONG_BY_S = 35


@define(eq=False)
class Once:
    """Allows one untrue answer per candle.

    Where candles may not exist, as on spot, two answers without a candle, some time apart, are the
    only proof of its absence.
    """

    is_needed: bool
    _used: set[tuple[str, str, int]] = field(init=False, factory=set)

    def allows(self, query: Query, row: Row) -> bool:
        """Whether an answer may lie about the candle in `row`; if so, it counts as used.

        False for a row that another lie has made odd.
        """
        if not _is_whole(row):
            return False
        candle = query["symbol"], query["interval"], row[_OPEN]
        if self.is_needed and candle in self._used:
            return False
        self._used.add(candle)
        return True


def empty_klines(chance: Chance, rows: list[Row], _query: Query) -> list[Row]:
    """Answer without any candle."""
    return [] if rows and chance.strikes() else rows


def missing_klines(chance: Chance, once: Once, rows: list[Row], query: Query) -> list[Row]:
    """Leave out some candles: the first, the last, or some in between."""
    if not rows or not chance.strikes():
        return rows
    dice, count = chance.dice, len(rows)
    some = 1 + int(count * dice.random() ** 3)
    match dice.randrange(3):
        case 0:
            chosen = set(range(some))
        case 1:
            chosen = set(range(count - some, count))
        case _:
            chosen = {dice.randrange(count) for _ in range(some)}
    return [
        row for place, row in enumerate(rows) if place not in chosen or not once.allows(query, row)
    ]


def off_grid_klines(chance: Chance, once: Once, rows: list[Row], query: Query) -> list[Row]:
    """Shift open and close times, or only close times, by a different amount in each answer."""
    if not rows or not chance.strikes():
        return rows
    shift_ms = chance.dice.randrange(60) * _SECOND_MS + chance.dice.randrange(1, _SECOND_MS)
    moved = (_CLOSE_TIME,) if chance.dice.random() < 1 / 4 else (_OPEN, _CLOSE_TIME)
    return [_shifted(row, moved, shift_ms) if once.allows(query, row) else row for row in rows]


def _is_whole(row: Any) -> bool:
    return (
        isinstance(row, list)
        and len(row) > _CLOSE_TIME
        and type(row[_OPEN]) is type(row[_CLOSE_TIME]) is int
    )


def _shifted(row: Row, moved: tuple[int, ...], shift_ms: int) -> Row:
    return [value + shift_ms if place in moved else value for place, value in enumerate(row)]


def odd_rows(chance: Chance, once: Once, rows: list[Row], query: Query) -> list[Any]:
    """Make one row unreadable or impossible."""
    if not rows or not chance.strikes():
        return rows
    place = chance.dice.randrange(len(rows))
    if not once.allows(query, rows[place]):
        return rows
    return [*rows[:place], _odd_row(rows[place], chance.dice), *rows[place + 1 :]]


def _odd_row(row: Row, dice: random.Random) -> Any:
    match dice.randrange(6):
        case 0:
            return None
        case 1:
            return row[:5]
        case 2:
            return dict(enumerate(map(str, row)))
        case 3:
            values: dict[int, Any] = {_HIGH: row[_LOW], _LOW: "99999999"}
        case 4:
            values = {_VOLUME: "-1"}
        case _:
            values = {dice.randrange(9): dice.choice([None, "NaN", "", [], True])}
    return [values.get(place, value) for place, value in enumerate(row)]


def odd_symbols(chance: Chance, info: dict[str, Any], _query: Query) -> dict[str, Any]:
    """Make one symbol of the list unreadable or impossible."""
    if not chance.strikes():
        return info
    symbols = list(info["symbols"])
    place = chance.dice.randrange(len(symbols))
    symbols[place] = _odd_symbol(symbols[place], chance.dice)
    return info | {"symbols": symbols}


def _odd_symbol(symbol: dict[str, Any], dice: random.Random) -> Any:
    match dice.randrange(5):
        case 0:
            return None
        case 1:
            return symbol["symbol"]
        case 2:
            return {key: value for key, value in symbol.items() if key != "symbol"}
        case 3:
            return symbol | {"onboardDate": _IN_MICROSECONDS}
    return symbol | {dice.choice(("symbol", "status", "contractStatus", "onboardDate")): None}


def short_lists(chance: Chance, info: dict[str, Any], _query: Query) -> dict[str, Any]:
    """Leave out some symbols: the end of the list, or any."""
    if not chance.strikes():
        return info
    symbols, dice = info["symbols"], chance.dice
    if dice.random() < 1 / 2:
        return info | {"symbols": symbols[: dice.randrange(len(symbols))]}
    return info | {"symbols": [each for each in symbols if dice.random() < 1 / 2]}


@define(eq=False)
class WrongServerTime:
    """Answers with a wrong time, each time wrong by a different span."""

    chance: Chance
    _spans: list[int] = field(init=False)

    def __attrs_post_init__(self) -> None:
        # More than are ever requested; each is used once.
        self._spans = self.chance.dice.sample(_WRONG_BY_MINUTES, len(_WRONG_BY_MINUTES))

    def __call__(self, answer: dict[str, Any], _query: Query) -> dict[str, Any]:
        """See `Lie`."""
        if not self.chance.strikes():
            return answer
        true_ms = answer["serverTime"]
        odd = (true_ms * _MICROSECONDS, None, "soon", -1, 0, true_ms / 7, True, 10**40)
        if self.chance.dice.random() < 1 / 3:
            return {"serverTime": self.chance.dice.choice(odd)}
        by_s = self._spans.pop() * 60 + _WRONG_BY_S
        return {"serverTime": true_ms + self.chance.dice.choice((-1, 1)) * by_s * _SECOND_MS}
