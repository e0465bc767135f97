"""Statistics of series, all together or one by one: candles missing and absent, and the lag."""

from __future__ import annotations

import enum
import math
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Protocol

import trio
from attrs import define, field, frozen

from klineagent.core.interval import Interval
from klineagent.exchange.clock.clock import ExchangeTime
from klineagent.series.ledger import Ledger
from klineagent.series.losses import NO_LOSSES
from klineagent.series.marks import Gap, Urgency

# Series between two checkpoints: one millisecond if nothing is missing, three at the worst.
AT_ONCE = 1000
LASTS_S = 1.0


class CountedSeries(Protocol):
    """The part of a `Subscription` that statistics need."""

    symbol: str
    interval: Interval
    ledger: Ledger
    audited_ms: int | None

    @property
    def is_active(self) -> bool:
        """Whether a connection carries it at this moment."""


@define(eq=False)
class Totals:
    """Sums over all series at one moment."""

    series: int = field(default=0, init=False)
    active: int = field(default=0, init=False)
    """The number of series that a connection carries."""
    missing: Counter[Urgency] = field(factory=Counter, init=False)
    """The number of missing candles."""
    lag_ms: dict[Interval, int] = field(factory=dict, init=False)
    """The longest lag of each interval."""
    overdue: list[tuple[int, CountedSeries]] = field(factory=list, init=False)
    """Series with candles missing that fell due while they ran, and since when, by the exchange's
    clock."""
    lossy: list[CountedSeries] = field(factory=list, init=False)
    """Series that have lost candles since the start."""
    gapped: list[CountedSeries] = field(factory=list, init=False)
    """Series with missing candles."""
    audited_ms: int | None = field(default=None, init=False)
    """The oldest time at which a series was last compared with the store."""

    @property
    def incomplete(self) -> int:
        """The number of series with missing candles."""
        return len(self.gapped)

    def count(self, series: CountedSeries, now_ms: int) -> None:
        """Add one series."""
        self.series += 1
        if series.audited_ms is not None:
            self.audited_ms = min(series.audited_ms, self.audited_ms or series.audited_ms)
        self.active += series.is_active
        longest_ms = self.lag_ms.setdefault(series.interval, 0)
        ledger = series.ledger
        if ledger.losses is not NO_LOSSES:
            self.lossy.append(series)
        if not ledger.gaps:  # true of nearly all series
            return
        self.gapped.append(series)
        self.lag_ms[series.interval] = max(longest_ms, lag_of(ledger, now_ms))
        for gap in ledger.gaps:
            self.missing[gap.mark.urgency] += ledger.count([gap])
        if (since_ms := overdue_since(ledger)) is not None:
            self.overdue.append((since_ms, series))


@define(eq=False, kw_only=True)
class Statistics:
    """Sums up all series, at most once a second however often that is asked for."""

    subscriptions: Callable[[], Iterable[CountedSeries]]
    time: ExchangeTime
    _totals: Totals = field(factory=Totals, init=False)
    _taken_at: float = field(default=-math.inf, init=False)
    _turn: trio.Lock = field(factory=trio.Lock, init=False)

    async def totals(self) -> Totals:
        """Return the totals, at most a second old."""
        async with self._turn:
            if trio.current_time() - self._taken_at >= LASTS_S:
                self._totals = await _taken(self.subscriptions(), self.time.now_ms())
                self._taken_at = trio.current_time()
            return self._totals


async def _taken(series: Iterable[CountedSeries], now_ms: int) -> Totals:
    """Sum up `series`, with a checkpoint every `AT_ONCE` of them."""
    totals = Totals()
    for number, each in enumerate(series, start=1):
        totals.count(each, now_ms)
        if number % AT_ONCE == 0:
            await trio.lowlevel.checkpoint()
    return totals


# The urgencies of candles that fell due while the series ran.
OVERDUE = frozenset({Urgency.FRESH, Urgency.MISSED})


class CandleState(enum.StrEnum):
    """The state of a candle according to the ledger, without a look into the store."""

    NOT_COVERED = "not_covered"
    """The candle is older than the ledger's first, or the series has not begun."""
    CLOSED = "closed"
    """The candle has closed and was handed on to be stored."""
    MISSING = "missing"
    ABSENT = "absent"
    FORMING = "forming"
    AWAITED = "awaited"
    """The candle has closed by the clock; its closing event may still come in time."""
    FUTURE = "future"


def candle_state_of(ledger: Ledger, open_ms: int, now_ms: int) -> CandleState:
    """Return the state of the candle that opens at `open_ms`, a time on the grid."""
    if not ledger.has_begun or open_ms < ledger.first_ms:
        return CandleState.NOT_COVERED
    if ledger.has_closed(open_ms):
        return CandleState.CLOSED
    if open_ms in ledger.gaps:
        return CandleState.MISSING
    if open_ms in ledger.absences:
        return CandleState.ABSENT
    if open_ms > now_ms:
        return CandleState.FUTURE
    is_over = ledger.interval.next_open(open_ms) <= now_ms
    return CandleState.AWAITED if is_over else CandleState.FORMING


@frozen(kw_only=True)
class SeriesStatistics:
    """The completeness of one series. Times are open times in milliseconds."""

    first_ms: int
    """The oldest candle that is covered."""
    end_ms: int
    """The oldest candle that is not due yet."""
    expected: int
    """The number of candles that are due."""
    missing: int
    absent: int
    healed: int
    """The number of candles that were missing and came."""
    newest_closed_ms: int | None
    lag_ms: int
    """The time since the close of the newest due candle that is not missing; 0 if that is the
    newest one. Missing history is no lag: a new series is filled backwards."""

    @property
    def closed(self) -> int:
        """The number of candles that closed: they are stored, or on their way to the store."""
        return self.expected - self.missing - self.absent

    @classmethod
    def of(cls, ledger: Ledger, now_ms: int) -> SeriesStatistics:
        """Compute the statistics of `ledger`, which has begun."""
        return cls(
            first_ms=ledger.first_ms,
            end_ms=ledger.horizon_ms,
            expected=ledger.interval.count(ledger.first_ms, ledger.horizon_ms),
            missing=ledger.missing,
            absent=ledger.absent,
            healed=ledger.healed,
            newest_closed_ms=newest_closed(ledger),
            lag_ms=lag_of(ledger, now_ms),
        )


def lag_of(ledger: Ledger, now_ms: int) -> int:
    """Compute `SeriesStatistics.lag_ms`."""
    end_ms = ledger.horizon_ms
    for gap in reversed(ledger.gaps):
        if gap.end_ms != end_ms or gap.mark.urgency is Urgency.HISTORY:
            break
        end_ms = gap.first_ms
    return now_ms - end_ms if end_ms < ledger.horizon_ms else 0


def overdue_since(ledger: Ledger) -> int | None:
    """Return when the oldest overdue candle fell due; None if none is overdue.

    Overdue are missing candles that closed while the series ran and that probably exist.
    """
    return min((due_of(ledger, gap) for gap in _overdue(ledger)), default=None)


def due_of(ledger: Ledger, gap: Gap) -> int:
    """Return when the first candle of `gap` fell due."""
    return ledger.interval.next_open(gap.first_ms) + ledger.grace_ms


def _overdue(ledger: Ledger) -> list[Gap]:
    # A trading halt is no reason for an alert, however long it lasts.
    return [
        gap for gap in ledger.gaps if gap.mark.urgency in OVERDUE and not gap.mark.may_not_exist
    ]


def newest_closed(ledger: Ledger) -> int | None:
    """Return the open time of the newest closed candle; None if there is none."""
    if (early_ms := ledger.newest_early_ms) is not None:
        return early_ms
    end_ms = ledger.horizon_ms
    gaps, absences = reversed(ledger.gaps), reversed(ledger.absences)
    gap, absence = next(gaps, None), next(absences, None)
    while True:
        if gap is not None and gap.end_ms == end_ms:
            end_ms, gap = gap.first_ms, next(gaps, None)
        elif absence is not None and absence.end_ms == end_ms:
            end_ms, absence = absence.first_ms, next(absences, None)
        elif end_ms > ledger.first_ms:
            return ledger.interval.shifted(end_ms, -1)
        else:
            return None
