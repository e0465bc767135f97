"""The exchange's active lies: well-formed events and answers that are untrue.

Like the blocks of `faults`, each lasts as long as its `with` block. A client can detect each lie:
by the rest of the frame, by other evidence, or by asking again. Undetectable lies, such as the same
wrong row twice a minute apart, are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

from attrs import define, field

from klineagent.twin.faults import event_lies, rest_lies
from klineagent.twin.faults.event_lies import CrossedStreams
from klineagent.twin.faults.faults import ExchangeFaults
from klineagent.twin.faults.rest_lies import Once, WrongServerTime

_Block = AbstractContextManager[None]
_KLINES, _TIME, _SYMBOLS = "/klines", "/time", "/exchangeInfo"


@define(kw_only=True, eq=False)
class Lies:
    """The lies that are active; `faults.injected` counts them by method name."""

    _faults: ExchangeFaults
    _now_ms: Callable[[], int]
    _may_skip_candles: bool
    """Whether intervals of the venue may have no candle."""
    _once: Once = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._once = Once(self._may_skip_candles)

    # Events.

    def late_forming(self, share: float = 1.0) -> _Block:
        """Send forming states of a candle with later times after its closing event."""
        chance, hold = self._faults.chance("late_forming", share), self._faults.hold
        return self._faults.tampering(partial(event_lies.late_forming, chance, hold))

    def repeated_closings(self, share: float = 1.0) -> _Block:
        """Send closing events again within half a minute, with a later time."""
        chance, hold = self._faults.chance("repeated_closings", share), self._faults.hold
        return self._faults.tampering(partial(event_lies.repeated_closings, chance, hold))

    def wrong_times(self, share: float = 1.0, *, by_ms: int | None = None) -> _Block:
        """Shift event times `by_ms`; without it, to any time up to their candle's end."""
        chance = self._faults.chance("wrong_times", share)
        return self._faults.tampering(partial(event_lies.wrong_times, chance, by_ms))

    def crossed_streams(self, share: float = 1.0) -> _Block:
        """Replace closing events by those of other symbols or intervals."""
        return self._faults.tampering(CrossedStreams(self._faults.chance("crossed_streams", share)))

    def contradictions(self, share: float = 1.0) -> _Block:
        """Make the candles in events contradictory."""
        chance = self._faults.chance("contradictions", share)
        return self._faults.tampering(partial(event_lies.contradictions, chance))

    # REST.

    def stale_klines(self, share: float = 1.0, *, most_ms: int = 60_000) -> _Block:
        """Answer klines as they were some time ago, a different time for each answer."""
        dice = self._faults.chance("stale_klines", share).dice

        def lag(_now_ms: int) -> int:
            return dice.randint(1, most_ms) if dice.random() < share else 0

        return self._faults.lagging("stale_klines", lag)

    def frozen_klines(self) -> _Block:
        """Answer klines as they were when the block began."""
        since_ms = self._now_ms()
        return self._faults.lagging("frozen_klines", lambda now_ms: now_ms - since_ms)

    def empty_klines(self, share: float = 1.0) -> _Block:
        """Answer klines with an empty list."""
        chance = self._faults.chance("empty_klines", share)
        return self._faults.lying(_KLINES, partial(rest_lies.empty_klines, chance))

    def missing_klines(self, share: float = 1.0) -> _Block:
        """Leave klines out of answers; on spot each of them at most once."""
        chance = self._faults.chance("missing_klines", share)
        return self._faults.lying(_KLINES, partial(rest_lies.missing_klines, chance, self._once))

    def off_grid_klines(self, share: float = 1.0) -> _Block:
        """Answer klines with wrong times, different ones in each answer."""
        chance = self._faults.chance("off_grid_klines", share)
        return self._faults.lying(_KLINES, partial(rest_lies.off_grid_klines, chance, self._once))

    def odd_rows(self, share: float = 1.0) -> _Block:
        """Answer klines with one row that is null, too short or impossible."""
        chance = self._faults.chance("odd_rows", share)
        return self._faults.lying(_KLINES, partial(rest_lies.odd_rows, chance, self._once))

    def odd_symbols(self, share: float = 1.0) -> _Block:
        """Make one symbol of exchangeInfo null or impossible."""
        chance = self._faults.chance("odd_symbols", share)
        return self._faults.lying(_SYMBOLS, partial(rest_lies.odd_symbols, chance))

    def short_lists(self, share: float = 1.0) -> _Block:
        """Leave some symbols out of exchangeInfo, or all after one."""
        chance = self._faults.chance("short_lists", share)
        return self._faults.lying(_SYMBOLS, partial(rest_lies.short_lists, chance))

    def wrong_server_time(self, share: float = 1.0) -> _Block:
        """Answer `/time` wrong by up to days, never twice the same, in microseconds, or as null."""
        return self._faults.lying(
            _TIME, WrongServerTime(self._faults.chance("wrong_server_time", share))
        )
