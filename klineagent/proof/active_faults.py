"""Which faults are active, and which delays they explain: of missing candles, of unstored rows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import trio
from attrs import define, field, frozen

# How long after its end a fault still explains that a candle is missing. Requests without an answer
# are repeated within seconds, inconclusive answers are rechecked within a minute or two, and bans
# last as long as they were announced to.
_UNANSWERED_S, _UNSETTLED_S, _BANNED_S = 0.0, 120.0, 180.0
# Candles missing because of a halt, or of an odd list of symbols, are requested less often.
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
"""By kind of fault, in seconds. Under other kinds an agent can fetch a missing candle at once."""

_OF_A_POOL = frozenset({NO_WEIGHT, "refusing_rest", "lying_weights"})
"""Kinds that also delay other venues whose weight is counted together."""
_OF_ALL = ("store", "disk")
"""How the kinds begin that delay all venues."""

EXPLAINS_ROWS: Mapping[str, float] = {
    kind: _UNANSWERED_S for kind in EXPLAINS_GAPS if kind.startswith(("store", "disk"))
}
"""The same for rows that are not stored yet; refused rows do not delay others."""


@define(eq=False)
class FaultRecord:
    """When faults of each kind strike."""

    active: Counter[str] = field(factory=Counter, init=False)
    ended: dict[str, float] = field(factory=dict, init=False)
    """When the last fault of each kind ended, by Trio's clock."""

    def clear_since(self, explains: Mapping[str, float]) -> float:
        """Since when no fault of `explains` explains a delay; infinity while one is active."""
        if any(self.active[kind] for kind in explains):
            return math.inf
        return max(
            (ended + explains[kind] for kind, ended in self.ended.items() if kind in explains),
            default=-math.inf,
        )


@frozen(eq=False)
class ActiveFaults:
    """The faults that strike one venue: the schedule enters them, the audit asks what they explain.

    Those that strike other venues, too, are in records that these share.
    """

    pool: FaultRecord = field(factory=FaultRecord)
    """What strikes all venues of the same weight pool."""
    everywhere: FaultRecord = field(factory=FaultRecord)
    """What strikes all venues."""
    _own: FaultRecord = field(factory=FaultRecord, init=False)

    @contextmanager
    def during(self, kind: str) -> Iterator[None]:
        """Record a fault of `kind` as active while the block lasts."""
        record = self._record_of(kind)
        record.active[kind] += 1
        try:
            yield
        finally:
            record.active[kind] -= 1
            record.ended[kind] = trio.current_time()

    def note(self, kind: str) -> None:
        """Record that a fault of `kind` is seen at this moment."""
        self._record_of(kind).ended[kind] = trio.current_time()

    def clear_since(self, explains: Mapping[str, float]) -> float:
        """Since when no fault of `explains` explains a delay; infinity while one is active."""
        return max(each.clear_since(explains) for each in self._records)

    def __str__(self) -> str:
        active = ", ".join(
            sorted(kind for each in self._records for kind, count in each.active.items() if count)
        )
        now = trio.current_time()
        ends = sorted(item for each in self._records for item in each.ended.items())
        ended = ", ".join(f"{kind} ended {now - at:.0f} s ago" for kind, at in ends)
        return f"active: {active or 'nothing'}; {ended or 'nothing before'}"

    @property
    def _records(self) -> tuple[FaultRecord, ...]:
        return self._own, self.pool, self.everywhere

    def _record_of(self, kind: str) -> FaultRecord:
        if kind in _OF_A_POOL:
            return self.pool
        return self.everywhere if kind.startswith(_OF_ALL) else self._own
