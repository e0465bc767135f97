"""What is written down of gaps, and what the next run reads of it."""

from __future__ import annotations

import msgspec
import pytest
from attrs import define

from klineagent import __version__
from klineagent.kline import MINUTE_MS, Interval
from klineagent.series.gaps import KnownGaps, Series, decode, encode, known_gaps
from klineagent.series.ledger import Absence, Absent, Ledger, Missing, Urgency
from klineagent.series.spans import Span
from tests.klines import OPEN_MS, a_kline

STORE = "clickhouse://db/market"


def at(minute: int) -> int:
    """The open time that many minutes into the samples."""
    return OPEN_MS + minute * MINUTE_MS


MISSED = Missing(Urgency.MISSED, "no answer", above_version=7)
ABSENT = Absence.proven(Absent.NO_CANDLE, OPEN_MS)
KNOWN: dict[Series, KnownGaps] = {
    ("BTCUSDT", Interval.M1): KnownGaps(
        at(9),
        (Span(at(2), at(4), MISSED), Span(at(7), at(8), Missing(Urgency.HISTORY))),
        (Span(at(4), at(5), ABSENT),),
    ),
    ("BTCUSDT", Interval.MO1): KnownGaps(0),
    ("ETHUSDT", Interval.M1): KnownGaps(at(9)),
    ("币安人生USDT", Interval.M1): KnownGaps(at(8)),
}


@define
class Running:
    """A series that runs."""

    ledger: Ledger
    symbol: str = "BTCUSDT"
    interval: Interval = Interval.M1
    audited_ms: int | None = OPEN_MS


def a_ledger() -> Ledger:
    """One that has closed nine minutes, but for two of them."""
    ledger = Ledger(Interval.M1, grace_ms=0)
    ledger.begin(at(0))
    for minute in (0, 1, 2, 4, 5, 6, 8):
        ledger.close(at(minute))
    ledger.fall_due(at(9))
    return ledger


def test_what_is_written_is_read() -> None:
    """All of it, and series that are as far as each other take the room of a name each."""
    content = encode(KNOWN, venue="usdm", store=STORE)
    assert decode(content, venue="usdm", store=STORE) == KNOWN
    many: dict[Series, KnownGaps] = {
        (f"S{number}USDT", interval): KnownGaps(interval.open_at(OPEN_MS))
        for number in range(600)
        for interval in Interval
    }
    content = encode(many, venue="usdm", store=STORE)
    assert decode(content, venue="usdm", store=STORE) == many
    assert len(content) < 10_000


def test_a_mark_that_learned_more_is_read_by_who_knows_less() -> None:
    """And the other way round: what is not told is as if nothing was known of it."""
    saved = msgspec.json.decode(encode(KNOWN, venue="usdm", store=STORE))
    [_, _, mark] = saved["incomplete"][0]["missing"][0]
    del mark["error"]
    mark["weather"] = "fair"
    read = decode(msgspec.json.encode(saved), venue="usdm", store=STORE)
    assert read["BTCUSDT", Interval.M1].gaps[0].mark == Missing(Urgency.MISSED, above_version=7)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "cannot be read"),
        (b"\xff\x00", "cannot be read"),
        (b"[" * 5000, "cannot be read"),
        (b'{"format": 1, "written_by": "0.1"}', "cannot be read"),
        (
            b'{"format": 2, "written_by": "9.9.9", "all": "different"}',
            "klineagent 9.9.9 wrote it in format 2, this version reads 1",
        ),
        (encode({}, venue="spot", store=STORE), "it is about spot"),
        (encode({}, venue="usdm", store="memory:"), "it is about usdm in memory:"),
    ],
)
def test_what_is_nothing_of_ours_is_told(content: bytes, reason: str) -> None:
    """With the version that wrote it, where that is why."""
    with pytest.raises(ValueError, match=reason):
        decode(content, venue="usdm", store=STORE)
    assert __version__.encode() in encode({}, venue="usdm", store=STORE)


def test_a_series_is_known_from_its_ledger() -> None:
    """Once its start is over: before that the last run knows more."""
    ledger = a_ledger()
    ledger.forgo(at(7), at(8), ABSENT)
    assert known_gaps([Running(ledger)], []) == {
        ("BTCUSDT", Interval.M1): KnownGaps(
            at(9),
            (Span(at(3), at(4), Missing(Urgency.MISSED)),),
            (Span(at(7), at(8), ABSENT),),
        )
    }
    assert known_gaps([Running(ledger, audited_ms=None)], []) == {}


def test_rows_that_would_die_with_the_process_are_missing_to_the_next() -> None:
    """What came early, or is not counted as closed, is none of them."""
    ledger = a_ledger()
    ledger.close(at(11))
    rows = [a_kline(minute) for minute in (3, 5, 6, 11)]
    [known] = known_gaps([Running(ledger)], [*rows, a_kline(1)._replace(symbol="X")]).values()
    assert known.gaps == (
        Span(at(3), at(4), Missing(Urgency.MISSED)),
        Span(at(5), at(7), Missing(Urgency.RESTART)),
        Span(at(7), at(8), Missing(Urgency.MISSED)),
    )


def test_what_was_stored_since_is_not_missing() -> None:
    """A gap may be filled in the middle; an absence may have been wrong."""
    known = KNOWN["BTCUSDT", Interval.M1].without(((at(3), at(3)), (at(4), at(6))), Interval.M1)
    assert known == KnownGaps(
        at(9), (Span(at(2), at(3), MISSED), Span(at(7), at(8), Missing(Urgency.HISTORY)))
    )
