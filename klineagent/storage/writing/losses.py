"""Rows that were accepted and will not be stored, and who is told of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import define

from klineagent.core.kline import Kline

KlinesSink = Callable[[Sequence[Kline]], None]
"""Called with closed candles that will not be stored."""


def ignore(*_: object) -> None:
    """Do nothing."""


@define(eq=False, kw_only=True)
class Losses:
    """Callbacks for rows that were accepted and will not be stored."""

    dropped: KlinesSink = ignore
    """Called with candles dropped for lack of room: they have to be fetched again."""
    refused: KlinesSink = ignore
    """Called with candles that the store will never take."""
