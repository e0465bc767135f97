"""What the startup scan finds missing of a series that begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import pytest
import trio
from attrs import define, field
from trio.testing import MockClock

from klineagent.core.interval import DAY_MS, HOUR_MS, MINUTE_MS, Interval
from klineagent.exchange.clock.clock import ExchangeTime
from klineagent.exchange.venues import USDM
from klineagent.series.backfill.known_gaps import UNKNOWN, KnownGaps, SavedGaps
from klineagent.series.backfill.startup import (
    MissingRange,
    StartupScan,
    StoredCoverage,
    accounted_since,
    missing_ranges,
    open_startup_scan,
    since_of,
    stored_coverage,
)
from klineagent.series.marks import Absence, Absent, Gap, Missing, Urgency
from klineagent.series.spans import Span
from klineagent.storage.memory.store import MemoryStore
from klineagent.storage.store import Batch, SeriesRuns, Store
from tests.klines import OPEN_MS, a_kline

BEGIN_MS = OPEN_MS + 2 * DAY_MS


def _minutes(first: int, second: int) -> tuple[int, int]:
    """Open times so many minutes before the series begins."""
    return BEGIN_MS - first * MINUTE_MS, BEGIN_MS - second * MINUTE_MS


def _missing_ranges(
    runs: list[tuple[int, int]],
    *,
    history: int = 0,
    before: int | None = None,
    known: int = 0,
    listed: int | None = None,
) -> list[MissingRange]:
    """The ranges missing in a store with these runs; all in minutes before the beginning."""
    coverage = SeriesRuns(
        "BTCUSDT",
        "1m",
        None if before is None else BEGIN_MS - before * MINUTE_MS,
        tuple(_minutes(start, end) for start, end in runs),
    )
    return missing_ranges(
        coverage if coverage.runs or before is not None else None,
        Interval.M1,
        since_ms=since_of(Interval.M1, BEGIN_MS, history=history, lookback_ms=DAY_MS),
        known_ms=BEGIN_MS - known * MINUTE_MS,
        begin_ms=BEGIN_MS,
        listed_ms=0 if listed is None else BEGIN_MS - listed * MINUTE_MS,
        history=history,
        lookback_ms=DAY_MS,
    )


def _history(interval: Interval, begin_ms: int, candles: int) -> list[MissingRange]:
    """The ranges missing of a new series."""
    return missing_ranges(
        None,
        interval,
        since_ms=begin_ms,
        known_ms=begin_ms,
        begin_ms=begin_ms,
        listed_ms=0,
        history=candles,
        lookback_ms=0,
    )


def test_a_new_series_lacks_its_history() -> None:
    """As many candles as are configured, before the open one."""
    assert _history(Interval.H1, BEGIN_MS, 24) == [(BEGIN_MS - DAY_MS, BEGIN_MS, Urgency.HISTORY)]


@pytest.mark.parametrize(
    ("listed", "history_since"),
    [(None, 500), (700, 500), (100, 100), (0, None), (-1, 500), (-DAY_MS, 500)],
)
def test_history_begins_at_the_listing(listed: int | None, history_since: int | None) -> None:
    """Unless the listing is in the future: then its date is wrong."""
    wished = [] if history_since is None else [(*_minutes(history_since, 0), Urgency.HISTORY)]
    assert _missing_ranges([], history=500, listed=listed) == wished


@pytest.mark.parametrize("listed", [5000, 1000, 20, 0, -1000])
def test_nothing_but_history_depends_on_the_listing(listed: int) -> None:
    """The date may be wrong: candles that were stored once are missing if they are gone."""
    assert _missing_ranges([(40, 30)], before=60, listed=listed) == [
        (*_minutes(59, 40), Urgency.RESTART),
        (*_minutes(29, 0), Urgency.RESTART),
    ]
    assert _missing_ranges([(40, 1)], known=90, listed=listed) == [
        (*_minutes(90, 40), Urgency.RESTART)
    ]
    assert _missing_ranges([], known=90, listed=listed) == [(*_minutes(90, 0), Urgency.RESTART)]


def test_if_nothing_old_enough_is_stored_all_is_missing_since_the_first_run() -> None:
    """The table was emptied, or restored in part; recent candles come first."""
    assert _missing_ranges([], known=2000) == [
        (*_minutes(2000, 1440), Urgency.HISTORY),
        (*_minutes(1440, 0), Urgency.RESTART),
    ]
    assert _missing_ranges([(100, 1)], known=2000, history=3000) == [
        (*_minutes(3000, 2000), Urgency.HISTORY),
        (*_minutes(2000, 1440), Urgency.HISTORY),
        (*_minutes(1440, 100), Urgency.RESTART),
    ]


def test_what_closed_since_the_newest_stored_candle_is_missing() -> None:
    """From the one after it to the open one."""
    assert _missing_ranges([(100, 10)]) == [(*_minutes(9, 0), Urgency.RESTART)]


def test_nothing_is_missing_where_all_is_stored() -> None:
    """Up to the candle that is open."""
    assert _missing_ranges([(100, 1)]) == []


@pytest.mark.parametrize(
    ("oldest", "before", "history", "since"),
    [
        (100, None, 0, 100),
        (1440, None, 0, 1440),
        (1000, 3000, 0, 1440),
        (2000, None, 2000, 2000),
        (1000, 3000, 2000, 2000),
    ],
)
def test_covered_is_what_was_scanned(
    oldest: int, before: int | None, history: int, since: int
) -> None:
    """As far back as the store goes, a day, or the configured history."""
    before_ms = None if before is None else BEGIN_MS - before * MINUTE_MS
    stored = SeriesRuns("BTCUSDT", "1m", before_ms, (_minutes(oldest, 1),))
    assert (
        accounted_since(
            stored,
            begin_ms=BEGIN_MS,
            since_ms=since_of(Interval.M1, BEGIN_MS, history=history, lookback_ms=DAY_MS),
        )
        == BEGIN_MS - since * MINUTE_MS
    )


def test_gaps_between_stored_candles_are_missing() -> None:
    """Those of the last day are urgent, older ones as urgent as history."""
    gaps = _missing_ranges([(2000, 1900), (1500, 100), (50, 1)], history=3000)
    assert gaps == [
        (*_minutes(3000, 2000), Urgency.HISTORY),
        (*_minutes(1899, 1500), Urgency.HISTORY),
        (*_minutes(99, 50), Urgency.RESTART),
    ]


def test_a_gap_that_reaches_into_the_lookback_is_missing_as_a_whole() -> None:
    """Its part before the last day comes later: the agent was away, then rows were stored."""
    assert _missing_ranges([(100, 1)], before=5000) == [
        (*_minutes(4999, 1440), Urgency.HISTORY),
        (*_minutes(1440, 100), Urgency.RESTART),
    ]


def test_where_nothing_recent_is_stored_the_gap_goes_back_to_the_newest() -> None:
    """An agent that was away for a month fetches that month."""
    assert _missing_ranges([], before=43_200, history=500) == [
        (*_minutes(43_199, 0), Urgency.RESTART)
    ]


def _stored_coverage(
    runs: list[tuple[int, int]],
    known: KnownGaps,
    *,
    before: int | None = None,
    history: int = 0,
    since: int = 1440,
) -> StoredCoverage:
    """The stored coverage of a series with these runs in the store, and `known` gaps."""
    before_ms = None if before is None else BEGIN_MS - before * MINUTE_MS
    stored = SeriesRuns("BTCUSDT", "1m", before_ms, tuple(_minutes(*run) for run in runs))
    return stored_coverage(
        stored if runs else None,
        known,
        Interval.M1,
        since_ms=BEGIN_MS - since * MINUTE_MS,
        begin_ms=BEGIN_MS,
        listed_ms=0,
        history=history,
        lookback_ms=DAY_MS,
    )


def _known(since: int, until: int, *gaps: Gap, absences: Sequence[Span[Absence]] = ()) -> KnownGaps:
    """The gaps that the last run saved, in minutes before the beginning."""
    return KnownGaps(*_minutes(since, until), gaps, tuple(absences))


OLD = Missing(Urgency.HISTORY, "no answer")
ABSENT = Absence.proven(Absent.NO_CANDLE, BEGIN_MS)
OFF_GRID = Absence.proven(Absent.OFF_GRID, BEGIN_MS)


def test_known_gaps_are_missing_still() -> None:
    """Gaps older than the scanned range as they were, later ones as far as they are not stored."""
    gaps = (Span(*_minutes(5000, 4000), OLD), Span(*_minutes(1500, 1000), OLD))
    found = _stored_coverage([(1440, 1200), (1100, 1)], _known(5000, 0, *gaps), before=1441)
    assert found == StoredCoverage(
        _minutes(5000, 0)[0],
        (
            Span(*_minutes(5000, 4000), OLD),
            Span(*_minutes(1500, 1440), OLD),
            Span(*_minutes(1199, 1100), OLD),
        ),
    )


def test_known_absences_are_no_gaps() -> None:
    """Except for candles that are stored by now."""
    known = _known(100, 0, absences=[Span(*_minutes(90, 30), ABSENT)])
    found = _stored_coverage([(100, 81), (40, 1)], known)
    assert found.gaps == ()
    assert found.absences == (Span(*_minutes(80, 40), ABSENT),)


def test_a_candle_off_the_grid_is_fetched_if_its_neighbours_are_missing() -> None:
    """Coverage does not show it; while its neighbours are stored, so is it."""
    known = _known(100, 0, absences=[Span(*_minutes(50, 49), OFF_GRID)])
    found = _stored_coverage([(100, 51), (49, 1)], known)
    assert (found.gaps, found.absences) == ((), known.absences)
    found = _stored_coverage([(100, 60), (40, 1)], known)
    assert found.gaps == (Span(*_minutes(59, 40), Missing(Urgency.RESTART)),)
    assert found.absences == ()


def test_where_nothing_is_stored_all_that_was_covered_is_missing() -> None:
    """The agent was killed before any history of the new series was stored."""
    found = _stored_coverage([], _known(600, 5, Span(*_minutes(600, 5), OLD)), history=500)
    assert found.gaps == (
        Span(*_minutes(600, 5), OLD),
        Span(*_minutes(5, 0), Missing(Urgency.RESTART)),
    )


def test_of_an_unknown_series_all_is_missing_that_is_not_stored_since_the_oldest_candle() -> None:
    """But nothing before that, because it is not known whether it ran then."""
    found = _stored_coverage([(9000, 5000), (4000, 1)], UNKNOWN, since=10**7)
    assert found == StoredCoverage(
        _minutes(9000, 0)[0], (Span(*_minutes(4999, 4000), Missing(Urgency.HISTORY)),)
    )
    assert _stored_coverage([], UNKNOWN) == StoredCoverage(BEGIN_MS, ())


def _until(minutes: int) -> KnownGaps:
    """The known gaps of a series that ran for a moment, so many minutes before the samples."""
    until_ms = OPEN_MS - minutes * MINUTE_MS
    return KnownGaps(until_ms, until_ms)


@define
class Watched:
    """A store that records the queries it gets."""

    store: MemoryStore
    asked: list[dict[str, int]] = field(factory=list)

    async def coverage(
        self, venue: str, since: dict[str, int], symbols: list[str]
    ) -> list[SeriesRuns]:
        """See `Store`."""
        self.asked.append(dict.fromkeys(symbols, since["1m"]))
        return await self.store.coverage(venue, since, symbols)


def test_where_the_scanned_range_is_stored_nothing_older_is_missing() -> None:
    """Older candles were covered, so they count as stored; the audit will see."""
    assert _missing_ranges([(1440, 1)], known=2000) == []
    assert _missing_ranges([(1439, 1)], known=1441) == [
        (*_minutes(1441, 1440), Urgency.HISTORY),
        (*_minutes(1440, 1439), Urgency.RESTART),
    ]


async def _found(scan: StartupScan, symbol: str, begin_ms: int) -> StoredCoverage:
    """What the scan finds of the minutes of a symbol that begins."""
    answered = trio.Event()
    found: list[StoredCoverage] = []

    def note(coverage: StoredCoverage) -> None:
        found.append(coverage)
        answered.set()

    scan.look_up((symbol, Interval.M1), begin_ms, note, listed_ms=0)
    await answered.wait()
    return found[0]


async def test_a_series_is_looked_up_from_where_the_last_run_ended(
    autojump_clock: MockClock,
) -> None:
    """Candles that were filled since are stored; a series removed a year ago affects no other."""
    store = MemoryStore()
    opens = {"BTCUSDT": range(-10_000, -8000), "ETHUSDT": range(-300, -1), "XRPUSDT": [-500_000]}
    for symbol, minutes in opens.items():
        rows = [a_kline(minute)._replace(symbol=symbol) for minute in minutes]
        await store.insert(Batch(symbol, tuple(rows)))
    watched = Watched(store)
    known = {
        ("BTCUSDT", Interval.M1): _until(10_000),
        ("ETHUSDT", Interval.M1): _until(2),
        ("XRPUSDT", Interval.M1): _until(499_999),
    }
    time = ExchangeTime()
    time.confirm(OPEN_MS)
    found: dict[str, tuple[Gap, ...]] = {}
    async with open_startup_scan(
        cast("Store", watched),
        USDM,
        time=time,
        history=0,
        lookback_ms=HOUR_MS,
        known=known.get,
    ) as scan:

        async def look(symbol: str) -> None:
            found[symbol] = (await _found(scan, symbol, OPEN_MS)).gaps

        async with trio.open_nursery() as nursery:
            for symbol in opens:
                nursery.start_soon(look, symbol)
    assert sorted(watched.asked, key=str) == [
        {"BTCUSDT": OPEN_MS - 10_000 * MINUTE_MS},
        {"ETHUSDT": OPEN_MS - HOUR_MS},
        {"XRPUSDT": OPEN_MS - 499_999 * MINUTE_MS},
    ]
    gap = Missing(Urgency.RESTART)
    minute = MINUTE_MS
    assert found == {
        "BTCUSDT": (Span(OPEN_MS - 8000 * minute, OPEN_MS, gap),),
        "ETHUSDT": (Span(OPEN_MS - minute, OPEN_MS, gap),),
        "XRPUSDT": (Span(OPEN_MS - 499_999 * minute, OPEN_MS, gap),),
    }


async def test_unknown_series_are_looked_up_symbol_by_symbol(
    autojump_clock: MockClock,
) -> None:
    """Back to the oldest candle, however old: a whole market in one query is too much."""
    store = MemoryStore()
    minutes = [*range(-500_000, -499_990), *range(-400_000, -399_990)]
    for symbol in ("BTCUSDT", "ETHUSDT"):
        rows = [a_kline(minute)._replace(symbol=symbol) for minute in minutes]
        await store.insert(Batch(symbol, tuple(rows)))
    time = ExchangeTime()
    time.confirm(OPEN_MS)
    watched = Watched(store)
    async with open_startup_scan(
        cast("Store", watched),
        USDM,
        time=time,
        history=0,
        lookback_ms=HOUR_MS,
        known=SavedGaps(is_whole=False).of,
    ) as scan:

        async def look(symbol: str) -> None:
            past = await _found(scan, symbol, OPEN_MS)
            assert past.since_ms == OPEN_MS - 500_000 * MINUTE_MS
            assert [Interval.M1.count(gap.first_ms, gap.end_ms) for gap in past.gaps] == [
                99_990,
                399_990,
            ]

        async with trio.open_nursery() as nursery:
            nursery.start_soon(look, "BTCUSDT")
            nursery.start_soon(look, "ETHUSDT")
    assert watched.asked == [{"BTCUSDT": 0}, {"ETHUSDT": 0}]


async def test_series_that_begin_together_are_looked_up_together(
    autojump_clock: MockClock,
) -> None:
    """A store that is unreachable is queried again until it answers."""
    store = MemoryStore()
    await store.insert(Batch("t", (a_kline(0), a_kline(1))))
    time = ExchangeTime()
    time.confirm(OPEN_MS + HOUR_MS)
    found: dict[str, tuple[Gap, ...]] = {}

    async with open_startup_scan(store, USDM, time=time, history=10, lookback_ms=DAY_MS) as scan:

        async def look(symbol: str) -> None:
            past = await _found(scan, symbol, OPEN_MS + HOUR_MS)
            found[symbol] = past.gaps

        async with trio.open_nursery() as nursery:
            nursery.start_soon(look, "BTCUSDT")
            nursery.start_soon(look, "ETHUSDT")
            with store.offline():
                await trio.sleep(60)
            assert not found
    hour_ms = OPEN_MS + HOUR_MS
    assert found == {
        "BTCUSDT": (Span(OPEN_MS + 2 * MINUTE_MS, hour_ms, Missing(Urgency.RESTART)),),
        "ETHUSDT": (Span(hour_ms - 10 * MINUTE_MS, hour_ms, Missing(Urgency.HISTORY)),),
    }


async def test_a_series_that_ends_before_the_store_answers_is_told_nothing(
    autojump_clock: MockClock,
) -> None:
    """If it has begun anew by then, that is told to the new one alone."""
    store, time, told = MemoryStore(), ExchangeTime(), list[str]()
    time.confirm(OPEN_MS)

    async with open_startup_scan(store, USDM, time=time, history=0, lookback_ms=DAY_MS) as scan:

        def look_up(symbol: str, which: str) -> None:
            scan.look_up((symbol, Interval.M1), OPEN_MS, lambda _: told.append(which), listed_ms=0)

        with store.offline():
            for symbol in ("BTCUSDT", "ETHUSDT"):
                look_up(symbol, "ended")
            await trio.sleep(10)
            for symbol in ("BTCUSDT", "ETHUSDT"):
                scan.withdraw((symbol, Interval.M1))
            look_up("BTCUSDT", "begun anew")
            await trio.sleep(10)
            assert not told
        await trio.sleep(60)
    assert told == ["begun anew"]


@pytest.mark.parametrize("interval", [Interval.M1, Interval.W1, Interval.MO1])
def test_history_counts_candles_of_the_interval(interval: Interval) -> None:
    """A month has its own length."""
    begin_ms = interval.open_at(BEGIN_MS)
    [(first_ms, end_ms, _)] = _history(interval, begin_ms, 5)
    assert interval.count(first_ms, end_ms) == 5


@pytest.mark.parametrize("interval", Interval)
def test_no_history_is_older_than_the_epoch(interval: Interval) -> None:
    """A month of minutes does not make as many months: there are no such years."""
    begin_ms = interval.open_at(BEGIN_MS)
    [(first_ms, end_ms, _)] = _history(interval, begin_ms, 10**12)
    assert (first_ms, end_ms) == (interval.first_open(0), begin_ms)
    assert since_of(interval, BEGIN_MS, history=10**12, lookback_ms=DAY_MS) == first_ms
