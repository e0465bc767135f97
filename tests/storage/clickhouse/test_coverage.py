"""The runs of candles, and so the gaps, that every store reports."""

from __future__ import annotations

import random
from collections.abc import Iterable
from itertools import pairwise

import pytest

from klineagent.core.interval import BY_LENGTH, DAY_MS, GRIDS, MINUTE_MS, Interval, on_grid, runs_of
from klineagent.core.kline import Kline
from klineagent.storage.store import Batch, SeriesRuns, Store
from tests.storage.samples import FIRST_OPEN, sample, update

ALL = {interval.value: 0 for interval in Interval}
BTC = ["BTCUSDT"]


def at(minute: int) -> int:
    """The open time that many minutes after the first sample's."""
    return FIRST_OPEN + minute * MINUTE_MS


def candles(interval: Interval, opens: Iterable[int]) -> list[Kline]:
    """Closed candles on the grid of `interval`."""
    return [sample(interval=interval.value, open_time=open_ms) for open_ms in opens]


def row_of(interval: Interval, first_ms: int, count: int) -> list[int]:
    """The open times of `count` candles in a row, from the one that holds `first_ms`."""
    opens = [interval.open_at(first_ms)]
    while len(opens) < count:
        opens.append(interval.next_open(opens[-1]))
    return opens


async def test_a_series_without_gap_is_one_run(store: Store) -> None:
    """All its candles lie between the first and the last."""
    await store.insert(Batch("a", tuple(map(sample, range(100)))))
    assert await store.coverage("usdm", {"1m": at(0)}, BTC) == [
        SeriesRuns("BTCUSDT", "1m", None, ((at(0), at(99)),))
    ]


async def test_every_gap_ends_a_run(store: Store) -> None:
    """Runs are returned as first and last candle, whatever the order of the rows."""
    minutes = [0, 1, 2, 5, 7, 8, 9, 1000]
    random.Random(1).shuffle(minutes)
    for minute in minutes:
        await store.insert(Batch(f"b{minute}", (sample(minute),)))
    [coverage] = await store.coverage("usdm", ALL, BTC)
    assert coverage.runs == (
        (at(0), at(2)),
        (at(5), at(5)),
        (at(7), at(9)),
        (at(1000), at(1000)),
    )


@pytest.mark.parametrize(
    ("since_minute", "before", "runs"),
    [
        (-5, None, ((0, 9), (20, 29))),
        (0, None, ((0, 9), (20, 29))),
        (4, None, ((4, 9), (20, 29))),
        (9, None, ((9, 9), (20, 29))),
        (10, 9, ((20, 29),)),
        (15, 9, ((20, 29),)),
        (29, None, ((29, 29),)),
        (30, 29, ()),
        (100_000, 29, ()),
        (1_000_000, 29, ()),
    ],
)
async def test_runs_are_those_of_the_window(
    store: Store, since_minute: int, before: int | None, runs: tuple[tuple[int, int], ...]
) -> None:
    """It may begin in a run, in a gap, before or after all; a gap it begins in is kept whole."""
    await store.insert(Batch("a", tuple(map(sample, (*range(10), *range(20, 30))))))
    assert await store.coverage("usdm", {"1m": at(since_minute)}, BTC) == [
        SeriesRuns(
            "BTCUSDT",
            "1m",
            None if before is None else at(before),
            tuple((at(a), at(b)) for a, b in runs),
        )
    ]


@pytest.mark.parametrize("interval", Interval)
async def test_every_interval_has_its_own_grid(store: Store, interval: Interval) -> None:
    """Neighbours on it are one run, over leap days and turns of the year; one missing ends it."""
    opens = row_of(interval, 1_700_000_000_000, 16)
    missing = opens.pop(6)
    await store.insert(Batch("a", tuple(candles(interval, opens))))
    assert await store.coverage("usdm", ALL, BTC) == [
        SeriesRuns(
            "BTCUSDT",
            interval.value,
            None,
            ((opens[0], interval.shifted(missing, -1)), (interval.shifted(missing, 1), opens[-1])),
        )
    ]


async def test_a_missing_february_shows(store: Store) -> None:
    """January and March are the nearest two months that are not neighbours."""
    january, february, march = row_of(Interval.MO1, FIRST_OPEN - DAY_MS, 3)
    await store.insert(Batch("a", tuple(candles(Interval.MO1, [january, march]))))
    [with_gap] = await store.coverage("usdm", {"1M": 0}, BTC)
    await store.insert(Batch("b", tuple(candles(Interval.MO1, [february]))))
    [without] = await store.coverage("usdm", {"1M": 0}, BTC)
    assert with_gap.runs == ((january, january), (march, march))
    assert without.runs == ((january, march),)


@pytest.mark.parametrize("length", [1, 63, 64, 65, 127, 128, 129, 200])
async def test_runs_of_any_length(store: Store, length: int) -> None:
    """Whichever multiples of 64 they touch, where databases cut their candles into words."""
    opens = row_of(Interval.M1, FIRST_OPEN, 64 * 8)
    first, second = opens[60 : 60 + length], opens[64 - length % 64 + 256 :][:length]
    await store.insert(Batch("a", tuple(candles(Interval.M1, first + second))))
    [coverage] = await store.coverage("usdm", ALL, BTC)
    assert coverage.runs == ((first[0], first[-1]), (second[0], second[-1]))


OFF_GRID = [
    (Interval.M1, at(1) + 30_000),
    (Interval.D1, FIRST_OPEN + DAY_MS + 1),
    (Interval.W1, Interval.W1.open_at(FIRST_OPEN) + DAY_MS),
    (Interval.MO1, FIRST_OPEN + 14 * DAY_MS),
    (Interval.MO1, FIRST_OPEN + 1),
]


@pytest.mark.parametrize(("interval", "stray_ms"), OFF_GRID)
async def test_candles_off_the_grid_hide_no_gap(
    store: Store, interval: Interval, stray_ms: int
) -> None:
    """They bridge none, begin or end nothing, and are no series by themselves."""
    before, _, after = row_of(interval, FIRST_OPEN, 3)
    strays = [before - 1, stray_ms, after + 1]
    await store.insert(Batch("a", tuple(candles(interval, [before, *strays, after]))))
    alone = [kline._replace(symbol="ALONEUSDT") for kline in candles(interval, strays)]
    await store.insert(Batch("b", tuple(alone)))
    assert await store.coverage("usdm", ALL, ["ALONEUSDT", "BTCUSDT"]) == [
        SeriesRuns("BTCUSDT", interval.value, None, ((before, before), (after, after)))
    ]


async def test_candles_around_the_epoch(store: Store) -> None:
    """An open time of 0 is one like any other."""
    await store.insert(Batch("a", tuple(candles(Interval.M1, [0, 60_000, 180_000]))))
    [coverage] = await store.coverage("usdm", ALL, BTC)
    assert coverage.runs == ((0, 60_000), (180_000, 180_000))


async def test_intervals_not_asked_for_are_left_out(store: Store) -> None:
    """Each interval has a window of its own; `1m` is not `1M`."""
    month, next_month = row_of(Interval.MO1, FIRST_OPEN, 2)
    klines = [
        *map(sample, range(10)),
        *candles(Interval.MO1, [month, next_month]),
        *candles(Interval.H1, row_of(Interval.H1, FIRST_OPEN, 3)),
    ]
    await store.insert(Batch("a", tuple(klines)))
    assert await store.coverage("usdm", {"1M": next_month, "1m": at(5), "3d": 0}, BTC) == [
        SeriesRuns("BTCUSDT", "1m", None, ((at(5), at(9)),)),
        SeriesRuns("BTCUSDT", "1M", None, ((next_month, next_month),)),
    ]
    assert await store.coverage("usdm", {}, BTC) == []


async def test_only_the_symbols_asked_for(store: Store) -> None:
    """Of one venue, by name and length of interval."""
    symbols = ["ETHUSDT", "币安人生USDT", "O'HARA\\USDT", "BTCUSDT"]
    klines = [
        sample(symbol=symbol, interval=interval) for symbol in symbols for interval in ("1M", "1m")
    ]
    await store.insert(Batch("a", (*klines, sample(venue="spot", symbol="SPOTUSDT"))))

    async def series(chosen: Iterable[str]) -> list[tuple[str, str]]:
        found = await store.coverage("usdm", ALL, set(chosen))
        return [(each.symbol, each.interval) for each in found]

    assert await series(symbols) == [(s, i) for s in sorted(symbols) for i in ("1m", "1M")]
    assert await series(symbols[1:3]) == [(s, i) for s in symbols[2:0:-1] for i in ("1m", "1M")]
    assert await series(["SPOTUSDT", "NONE"]) == []
    assert await series([]) == []


async def test_forming_candles_do_not_count(store: Store) -> None:
    """Not as the last of a run, not in the middle, and not as a series of their own."""
    forming = [update(1, 30_000), update(3, 30_000), update(0, 5)._replace(symbol="ETHUSDT")]
    await store.insert(Batch("a", (sample(0), sample(2), *forming)))
    assert await store.coverage("usdm", ALL, ["BTCUSDT", "ETHUSDT"]) == [
        SeriesRuns("BTCUSDT", "1m", None, ((at(0), at(0)), (at(2), at(2))))
    ]


async def test_a_closed_candle_counts_whatever_comes_later(store: Store) -> None:
    """Growing states that were late, the same close again, a correction: there is one candle."""
    await store.insert(Batch("a", (sample(0), update(1, 60_000, is_closed=True), sample(2))))
    for token, state in [
        ("b", update(1, 30_000)),
        ("c", update(1, 60_000, is_closed=True)),
        ("d", update(1, 61_000, is_closed=True)),
    ]:
        await store.insert(Batch(token, (state,)))
    [coverage] = await store.coverage("usdm", ALL, BTC)
    assert coverage.runs == ((at(0), at(2)),)


async def test_many_series_in_one_answer(store: Store) -> None:
    """Random gaps in many series are found as plain Python finds them."""
    chance = random.Random(5)
    klines = []
    expected = []
    for symbol in ("AUSDT", "BUSDT", "CUSDT", "DUSDT"):
        for interval in sorted((Interval.M1, Interval.D3, Interval.W1), key=_rank):
            row = row_of(interval, FIRST_OPEN, 400)
            opens = sorted(chance.sample(row, chance.choice([1, 40, 390])))
            klines += [k._replace(symbol=symbol) for k in candles(interval, opens)]
            runs = runs_of([each for each in opens if each >= row[200]], interval.value)
            older = [each for each in opens if each < row[200]]
            before = older[-1] if older and row[200] not in opens else None
            expected.append(SeriesRuns(symbol, interval.value, before, runs))
    since = {i.value: row_of(i, FIRST_OPEN, 201)[-1] for i in Interval}
    chance.shuffle(klines)
    for number in range(3):
        await store.insert(Batch(f"b{number}", tuple(klines[number::3])))
    symbols = {each.symbol for each in expected}
    assert await store.coverage("usdm", since, symbols) == expected
    for each in expected:
        series, first_ms = (each.symbol, each.interval), since[each.interval]
        end_ms = row_of(Interval(each.interval), FIRST_OPEN, 401)[-1]
        assert await store.stored_runs("usdm", *series, first_ms, end_ms) == each.runs


async def test_the_runs_of_a_range(store: Store) -> None:
    """Its end is not in it; what lies around it, of other series or forming is left out."""
    klines = [*map(sample, (*range(10), *range(20, 30))), sample(12, interval="3m")]
    await store.insert(Batch("a", (*klines, sample(15, symbol="ETHUSDT"), update(14, 30_000))))
    for first, end, runs in [
        (0, 30, [(0, 9), (20, 29)]),
        (5, 25, [(5, 9), (20, 24)]),
        (9, 21, [(9, 9), (20, 20)]),
        (10, 20, []),
        (30, 50, []),
    ]:
        stored = await store.stored_runs("usdm", "BTCUSDT", "1m", at(first), at(end))
        assert stored == tuple((at(a), at(b)) for a, b in runs)
    assert await store.stored_runs("usdm", "XRPUSDT", "1m", at(0), at(30)) == ()


async def test_a_closed_row_that_a_forming_one_outranks_is_not_stored(store: Store) -> None:
    """No reader of `klines_final` sees it; agents before 0.2 stored late forming states so."""
    late = update(1, 59_000)._replace(version=2**63)
    await store.insert(Batch("a", (*map(sample, range(3)), late)))
    runs = ((at(0), at(0)), (at(2), at(2)))
    [coverage] = await store.coverage("usdm", ALL, BTC)
    assert coverage.runs == runs
    assert await store.stored_runs("usdm", "BTCUSDT", "1m", at(0), at(3)) == runs
    await store.insert(Batch("b", (sample(1, version=2**63 + 1),)))
    [coverage] = await store.coverage("usdm", ALL, BTC)
    assert coverage.runs == ((at(0), at(2)),)


@pytest.mark.parametrize("interval", Interval)
def test_neighbours_are_never_further_apart_than_the_longest(interval: Interval) -> None:
    """A row that leaves one out is refused."""
    opens = row_of(interval, 1_600_000_000_000, 100)
    longest_ms = GRIDS[interval.value].longest_ms
    assert max(later - open_ms for open_ms, later in pairwise(opens)) == longest_ms
    assert min(later - open_ms for open_ms, later in pairwise(opens[::2])) > longest_ms


@pytest.mark.parametrize("interval", Interval)
def test_a_grid_has_exactly_the_open_times(interval: Interval) -> None:
    """Of whatever is near them only they are on it."""
    opens = row_of(interval, 1_600_000_000_000, 100)
    near = [open_ms + shift_ms for open_ms in opens for shift_ms in (-1, 0, 1, 500)]
    assert on_grid(near, interval.value) == opens


def _rank(interval: Interval) -> int:
    return BY_LENGTH[interval.value]
