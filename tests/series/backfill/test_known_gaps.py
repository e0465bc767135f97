"""What the gap file says, and what the next run reads of it."""

from __future__ import annotations

from itertools import count

import msgspec
import pytest
from attrs import define

from klineagent import __version__
from klineagent.core.errors import StateUnreadable
from klineagent.core.interval import MINUTE_MS, Interval
from klineagent.core.kline import Kline
from klineagent.exchange.venues import USDM
from klineagent.series.backfill.known_gaps import (
    UNKNOWN,
    GapsByVenue,
    KnownGaps,
    SavedGaps,
    Series,
    decode,
    encode,
    known_gaps,
)
from klineagent.series.ledger import Ledger
from klineagent.series.marks import Absence, Absent, Missing, Urgency
from klineagent.series.spans import Span
from tests.klines import OPEN_MS, a_kline

STORE = "clickhouse://db/market"


def at(minute: int) -> int:
    """The open time that many minutes after the first sample."""
    return OPEN_MS + minute * MINUTE_MS


MISSED = Missing(Urgency.MISSED, "no answer", above_version=7)
ABSENT = Absence.proven(Absent.NO_CANDLE, OPEN_MS)
GAPS: dict[Series, KnownGaps] = {
    ("BTCUSDT", Interval.M1): KnownGaps(
        at(0),
        at(9),
        (Span(at(2), at(4), MISSED), Span(at(7), at(8), Missing(Urgency.HISTORY))),
        (Span(at(4), at(5), ABSENT),),
    ),
    ("BTCUSDT", Interval.MO1): KnownGaps(0, 0),
    ("ETHUSDT", Interval.M1): KnownGaps(at(1), at(9)),
    ("币安人生USDT", Interval.M1): KnownGaps(at(1), at(8)),
}
KNOWN = SavedGaps(GAPS)


def written(known: SavedGaps, *, store: str = STORE) -> bytes:
    """The file of one venue."""
    return encode(GapsByVenue({"usdm": known}), store=store)


def read(content: bytes) -> SavedGaps:
    """What a file says of that venue."""
    return decode(content, store=STORE).of("usdm")


@define
class Running:
    """A series that runs."""

    ledger: Ledger
    symbol: str = "BTCUSDT"
    interval: Interval = Interval.M1
    audited_ms: int | None = OPEN_MS


def a_ledger() -> Ledger:
    """A ledger of nine closed minutes, except two."""
    ledger = Ledger(Interval.M1, grace_ms=0)
    ledger.begin(at(0))
    for minute in (0, 1, 2, 4, 5, 6, 8):
        ledger.close(at(minute), now_ms=0)
    ledger.fall_due(at(9))
    return ledger


def test_what_is_written_is_read() -> None:
    """Completely; series with equal times take only the room of their names."""
    content = written(KNOWN)
    assert read(content) == KNOWN
    many = SavedGaps(
        {
            (f"S{number}USDT", interval): KnownGaps(0, interval.open_at(OPEN_MS))
            for number in range(600)
            for interval in Interval
        }
    )
    content = written(many)
    assert read(content) == many
    assert len(content) < 20_000


def test_a_file_is_small_whatever_times_there_are() -> None:
    """Even if no two of a market's 9,000 series began together or have equal horizons."""
    moments = count(OPEN_MS)
    many = SavedGaps(
        {
            (f"S{number}USDT", interval): KnownGaps(next(moments), next(moments))
            for number in range(600)
            for interval in USDM.intervals
        }
    )
    content = written(many)
    assert read(content) == many
    assert len(content) < 500_000


def test_series_of_an_unreadable_file_stay_unknown() -> None:
    """In every later file, for series that it does not list."""
    lost = SavedGaps(GAPS, is_whole=False)
    assert read(written(lost)) == lost
    new, old = ("NEWUSDT", Interval.M1), ("BTCUSDT", Interval.M1)
    assert (lost.of(new), lost.of(old)) == (UNKNOWN, GAPS[old])
    assert (KNOWN.of(new), KNOWN.of(old)) == (None, GAPS[old])


def test_a_file_of_format_1_is_read_as_its_venues() -> None:
    """It knew one venue, and whether others ever ran was not its matter."""
    new = msgspec.json.decode(written(KNOWN))
    old = {"format": 1, "klineagent": "0.2.0", "venue": "spot", "store": STORE}
    content = msgspec.json.encode(old | new["venues"]["usdm"])
    assert decode(content, store=STORE) == GapsByVenue({"spot": KNOWN})


def test_marks_of_other_versions_are_read() -> None:
    """A newer version may add fields, and fields that are missing have their defaults."""
    saved = msgspec.json.decode(written(KNOWN))
    [_, _, mark] = saved["venues"]["usdm"]["incomplete"][0]["missing"][0]
    del mark["error"]
    mark["weather"] = "fair"
    [gap, _] = read(msgspec.json.encode(saved)).gaps["BTCUSDT", Interval.M1].gaps
    assert gap.mark == Missing(Urgency.MISSED, above_version=7)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "cannot be read"),
        (b"\xff\x00", "cannot be read"),
        (b"[" * 5000, "cannot be read"),
        (b'{"format": 1, "klineagent": "0.1"}', "cannot be read"),
        (written(KNOWN).replace(b'"until"', b'"til"'), "cannot be read"),
        (written(KNOWN).replace(b'["BTCUSDT"]', b"[]"), "cannot be read"),
        (written(SavedGaps(), store="memory:"), "it is about memory:"),
    ],
)
def test_a_file_of_something_else_is_refused(content: bytes, reason: str) -> None:
    """Whether it is damaged, or belongs to another store."""
    with pytest.raises(ValueError, match=reason):
        read(content)


def test_the_version_that_wrote_a_newer_file_is_named() -> None:
    """Every file names the version that wrote it."""
    content = b'{"format": 3, "klineagent": "9.9.9", "all": "different"}'
    with pytest.raises(StateUnreadable, match=r"klineagent 9\.9\.9 wrote it \(format 3\)"):
        read(content)
    assert __version__.encode() in written(SavedGaps())


def test_known_gaps_come_from_the_ledger() -> None:
    """Once the startup scan is done: before that the last run knows more."""
    ledger = a_ledger()
    ledger.give_up(at(7), at(8), ABSENT)
    assert known_gaps([Running(ledger)], []) == {
        ("BTCUSDT", Interval.M1): KnownGaps(
            at(0),
            at(9),
            (Span(at(3), at(4), Missing(Urgency.MISSED)),),
            (Span(at(7), at(8), ABSENT),),
        )
    }
    assert known_gaps([Running(ledger, audited_ms=None)], []) == {}


def test_rows_that_are_not_durable_are_missing_to_the_next_run() -> None:
    """Except those that came early or do not count as closed."""
    ledger = a_ledger()
    ledger.close(at(11), now_ms=0)
    rows = [a_kline(minute) for minute in (3, 5, 6, 11)]
    [known] = known_gaps([Running(ledger)], [*rows, a_kline(1)._replace(symbol="X")]).values()
    assert known.gaps == (
        Span(at(3), at(4), Missing(Urgency.MISSED)),
        Span(at(5), at(7), Missing(Urgency.RESTART)),
        Span(at(7), at(8), Missing(Urgency.MISSED)),
    )


def an_odd_row(minute: int) -> Kline:
    """A candle that opened 15 seconds late."""
    return a_kline(minute)._replace(open_time=at(minute) + 15_000, source="rest")


def test_a_row_off_the_grid_that_is_not_durable_is_missing_with_its_slot() -> None:
    """Whether the slot has no other candle, or one that was cut short."""
    ledger = a_ledger()
    off_grid = Absence.proven(Absent.OFF_GRID, OPEN_MS)
    for minute in (3, 7):
        ledger.give_up(at(minute), at(minute + 1), off_grid)
    [known] = known_gaps([Running(ledger)], [an_odd_row(3), an_odd_row(5)]).values()
    assert known.gaps == (
        Span(at(3), at(4), Missing(Urgency.RESTART)),
        Span(at(5), at(6), Missing(Urgency.RESTART)),
    )
    assert known.absences == (Span(at(7), at(8), off_grid),)


def test_a_repair_that_is_not_durable_is_missing_as_a_repair() -> None:
    """Otherwise the row that it replaces would outrank the fetched one."""
    repair = a_kline(5).as_repair(at(20), above_version=at(30) << 1)
    [known] = known_gaps([Running(a_ledger())], [repair, an_odd_row(5)]).values()
    wrong = Missing(Urgency.RESTART, above_version=repair.version)
    assert Span(at(5), at(6), wrong) in known.gaps


def test_what_was_stored_since_is_not_missing() -> None:
    """A gap may be filled in the middle; an absence may have been wrong."""
    known = GAPS["BTCUSDT", Interval.M1].without(((at(3), at(3)), (at(4), at(6))), Interval.M1)
    assert known == KnownGaps(
        at(0), at(9), (Span(at(2), at(3), MISSED), Span(at(7), at(8), Missing(Urgency.HISTORY)))
    )
