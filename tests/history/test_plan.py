"""Which files are taken, in which order, and what is left."""

from __future__ import annotations

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from klineagent.core.interval import DAY_MS, Interval
from klineagent.history.archive.files import (
    ArchivedSeries,
    ArchiveFile,
    FilePeriod,
    file_named,
    month_end,
    name_of,
    series_folder,
)
from klineagent.history.judging import FileRead, expected_by_day, judged
from klineagent.history.plan import (
    LATE_MS,
    UNIT_ROWS,
    Ladder,
    Range,
    rows_of,
    subtract,
    units_of,
    whole_ranges,
)
from klineagent.storage.history import FileFacts, FileState, ImportRecord

JANUARY, FEBRUARY, MARCH = 1_767_225_600_000, 1_769_904_000_000, 1_772_323_200_000
SERIES = ArchivedSeries("usdm", "BTCUSDT", Interval.H1)


def a_file(stamp: str, series: ArchivedSeries = SERIES, etag: str = "1") -> ArchiveFile:
    """A file of a month or a day."""
    period = FilePeriod.DAILY if stamp.count("-") > 1 else FilePeriod.MONTHLY
    path = f"{series_folder(series, period)}{series.symbol}-{name_of(series.interval)}-{stamp}.zip"
    found = file_named(series, path, size=1, etag=etag, published=0)
    assert found is not None
    return found


def a_record(file: ArchiveFile, *, but: int | None = None) -> ImportRecord:
    """The record of a file that has all candles, but one of a day."""
    first = file.first_ms // DAY_MS
    counts = expected_by_day(file.series.interval, file.first_ms, file.end_ms)
    days = {first + day: (count - (day == but), 7) for day, count in enumerate(counts)}
    return judged(FileRead(file, "sha"), FileFacts(rows=1, days=days), now_ms=1)


def a_ladder(*files: ArchiveFile, end_ms: int = MARCH) -> Ladder:
    """The first two months of 2026, and these files."""
    ladder = Ladder(series=files[0].series, first_ms=JANUARY, end_ms=end_ms)
    for file in files:
        kept = ladder.months if file.end_ms - file.first_ms > DAY_MS else ladder.days
        kept[file.first_ms] = file
    return ladder


def test_months_come_before_days() -> None:
    """Days of a month that is published are not looked at, as long as it may be whole."""
    january, day = a_file("2026-01"), a_file("2026-02-03")
    ladder = a_ladder(january, day, a_file("2026-01-05"))
    assert ladder.month_files() == [january]
    assert ladder.day_files() == [day]
    assert ladder.days_needed()[0] == FEBRUARY


def test_a_month_that_lacks_a_candle_sends_for_that_day() -> None:
    """And for no other."""
    ladder = a_ladder(a_file("2026-01"), *(a_file(f"2026-01-{day:02}") for day in range(1, 32)))
    ladder.note([a_record(ladder.months[JANUARY], but=4)])
    assert [each.path for each in ladder.day_files()] == [a_file("2026-01-05").path]
    assert ladder.missing() == [
        (JANUARY + 4 * DAY_MS, JANUARY + 5 * DAY_MS),
        (FEBRUARY, MARCH),
    ]


def test_a_month_that_ends_after_the_range_is_taken_by_days() -> None:
    """So a file is always imported whole."""
    ladder = a_ladder(a_file("2026-01"), a_file("2026-01-01"), end_ms=JANUARY + 2 * DAY_MS)
    assert ladder.month_files() == []
    assert ladder.day_files() == [a_file("2026-01-01")]


def test_months_are_all_there_is_of_long_intervals() -> None:
    """The first week of February begins in it; the one before is January's."""
    weekly = ArchivedSeries("usdm", "BTCUSDT", Interval.W1)
    ladder = a_ladder(a_file("2026-01", weekly), a_file("2026-02", weekly))
    assert len(ladder.month_files()) == 2
    assert ladder.days_needed() == []
    ladder.note(a_record(each) for each in ladder.months.values())
    assert ladder.missing() == []


def test_seconds_come_by_days() -> None:
    """A month of them is too much at once; where a day has no file it is taken all the same."""
    seconds = ArchivedSeries("spot", "BTCUSDT", Interval.S1)
    ladder = a_ladder(
        a_file("2026-01", seconds),
        *(a_file(f"2026-01-{day:02}", seconds) for day in range(1, 32)),
        end_ms=FEBRUARY,
    )
    assert ladder.month_files() == []
    assert len(ladder.day_files()) == 31
    del ladder.days[JANUARY]
    assert ladder.months[JANUARY] in ladder.day_files()


def test_a_rewritten_file_is_taken_again_only_if_it_lacked_something() -> None:
    """What was imported whole is left to the audit."""
    whole, short = a_file("2026-01"), a_file("2026-02")
    ladder = a_ladder(evolve(whole, etag="2"), evolve(short, etag="2"))
    ladder.note([a_record(whole), a_record(short, but=3)])
    assert ladder.month_files() == [short]
    assert ladder.is_rewritten(ladder.months[JANUARY])
    ladder.note([evolve(a_record(short, but=3), etag="2")])
    assert ladder.month_files() == []


def absent(first_ms: int, end_ms: int) -> ImportRecord:
    """The record of candles that neither archive nor exchange had."""
    return ImportRecord(
        path=f"absent/{first_ms}",
        venue="usdm",
        symbol="BTCUSDT",
        interval="1h",
        state=FileState.ABSENT,
        first_open=first_ms,
        last_open=end_ms - 3_600_000,
    )


def test_what_is_absent_counts_as_whole() -> None:
    """The exchange is not asked for it again."""
    record = absent(JANUARY, FEBRUARY)
    assert [*whole_ranges(record)] == [(JANUARY, FEBRUARY)]
    ladder = a_ladder(a_file("2026-01"))
    ladder.note([record])
    assert ladder.missing() == [(FEBRUARY, MARCH)]


def test_a_file_that_comes_after_its_candles_were_found_absent_is_taken() -> None:
    """A month at any time; days are looked for until their month must have one."""
    month, day = a_file("2026-01"), a_file("2026-02-03")
    ladder = a_ladder(month, day)
    ladder.note([absent(JANUARY, MARCH)])
    assert ladder.month_files() == [month]
    assert ladder.day_files() == [day]
    ladder.end_ms = MARCH + LATE_MS
    assert FEBRUARY + 2 * DAY_MS not in ladder.days_needed()


def test_a_file_that_was_not_taken_may_have_the_first_candle() -> None:
    """Nobody can say that there was none before the first that was read."""
    refused, taken = a_file("2026-01"), a_file("2026-02")
    ladder = a_ladder(refused, taken, a_file("2026-02-01"))
    first_open = FEBRUARY + DAY_MS // 2
    ladder.note([evolve(a_record(taken), first_open=first_open)])
    assert ladder.begins_ms == JANUARY
    del ladder.months[JANUARY]
    assert ladder.begins_ms == first_open


def test_units_begin_with_the_newest_month_and_hold_one_month_each() -> None:
    """Across symbols, and no more candles than the engine has memory for."""
    minutes = [ArchivedSeries("usdm", f"S{n}USDT", Interval.M1) for n in range(10)]
    stamps = ["2026-01", "2026-02", "2026-02-01"]
    units = units_of(a_file(stamp, each) for each in minutes for stamp in stamps)
    months = [month_end(file.first_ms) for unit in units for file in unit.files]
    assert months == sorted(months, reverse=True)
    for unit in units:
        assert len({month_end(file.first_ms) for file in unit.files}) == 1
        assert sum(map(rows_of, unit.files)) <= UNIT_ROWS
    assert sum(len(unit.files) for unit in units) == 30


_POINTS = st.integers(0, 30)
_RANGES = st.lists(st.tuples(_POINTS, st.integers(1, 6)).map(lambda each: (each[0], sum(each))))


@given(_POINTS, st.integers(1, 30), _RANGES)
def test_what_is_left_is_what_nothing_covers(first: int, length: int, covered: list[Range]) -> None:
    """Point by point."""
    left = subtract([(first, first + length)], covered)
    points = {point for begin, end in left for point in range(begin, end)}
    taken = {point for begin, end in covered for point in range(begin, end)}
    assert points == {*range(first, first + length)} - taken
    assert left == sorted(left)
