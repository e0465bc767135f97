"""Which faults are active, and what they explain: missing candles, and rows on their way."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import trio
from attrs import define, field

# How long after its end a fault still explains that a candle is missing. Requests that were not
# answered are made again within seconds; what answers did not settle, within a minute or two; bans
# go on for as long as they were told to.
_UNANSWERED_S, _UNSETTLED_S, _BANNED_S = 0.0, 120.0, 180.0
# A gap whose candles a halt has made absent, or an odd list has made idle, is asked for less often.
_IDLE_S = 900.0
NO_WEIGHT = "no request weight left"
EXPLAINS_GAPS: Mapping[str, float] = {
    NO_WEIGHT: 0.0,
    "offline": _UNANSWERED_S,
    "failing_rest": _UNANSWERED_S,
    "hanging_rest": _UNANSWERED_S,
    "hanging_klines": _UNANSWERED_S,
    "refusing_rest": _BANNED_S,
    "lying_weights": _UNANSWERED_S,
    "lagging_rest": _UNSETTLED_S,
    "lagging_long": _UNSETTLED_S,
    "stale_klines": _UNSETTLED_S,
    "frozen_klines": _UNSETTLED_S,
    "empty_klines": _UNSETTLED_S,
    "missing_klines": _UNSETTLED_S,
    "off_grid_klines": _UNSETTLED_S,
    "odd_rows": _UNSETTLED_S,
    "wrong_times": _UNSETTLED_S,
    "wrong_server_time": _UNSETTLED_S,
    "halting": _IDLE_S,
    "odd_symbols": _IDLE_S,
    "short_lists": _IDLE_S,
    "store_offline": _UNANSWERED_S,
    "store_losing_answers": _UNANSWERED_S,
    "store_overloaded": _UNANSWERED_S,
    "store_misconfigured": _UNANSWERED_S,
    "store_slow": _UNANSWERED_S,
    "disk_full": _UNANSWERED_S,
    "disk_failing": _UNANSWERED_S,
}
"""By kind of fault. All others leave an agent what it needs to have a missing candle at once."""

EXPLAINS_ROWS: Mapping[str, float] = {
    kind: _UNANSWERED_S for kind in EXPLAINS_GAPS if kind.startswith(("store", "disk"))
}
"""Likewise for rows that are not stored yet; refused ones hold up no others."""


@define(eq=False)
class Weather:
    """Told by the storm what it does, asked by the audit what that explains."""

    _active: Counter[str] = field(factory=Counter, init=False)
    _ended: dict[str, float] = field(factory=dict, init=False)
    """When a fault of each kind was over last, by Trio's clock."""

    @contextmanager
    def striking(self, kind: str) -> Iterator[None]:
        """A fault of that kind is active in here."""
        self._active[kind] += 1
        try:
            yield
        finally:
            self._active[kind] -= 1
            self._ended[kind] = trio.current_time()

    def note(self, kind: str) -> None:
        """At this moment there is something of that kind."""
        self._ended[kind] = trio.current_time()

    def calm_since(self, explains: Mapping[str, float]) -> float:
        """Since when none of these faults explains anything; infinity as long as one does."""
        if any(self._active[kind] for kind in explains):
            return math.inf
        return max(
            (ended + explains[kind] for kind, ended in self._ended.items() if kind in explains),
            default=-math.inf,
        )

    def __str__(self) -> str:
        active = ", ".join(kind for kind, count in sorted(self._active.items()) if count)
        now = trio.current_time()
        ended = ", ".join(
            f"{kind} ended {now - at:.0f} s ago" for kind, at in sorted(self._ended.items())
        )
        return f"active: {active or 'nothing'}; {ended or 'nothing before'}"
