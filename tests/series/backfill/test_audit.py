"""Which candles the audit suspects."""

from __future__ import annotations

from klineagent.core.interval import MINUTE_MS, Interval
from klineagent.series.backfill.audit import closed_within, opens_of, still_suspect, without
from klineagent.series.ledger import Ledger
from klineagent.series.marks import Absence, Absent
from klineagent.series.spans import Span
from tests.klines import OPEN_MS, a_kline


def at(minute: int) -> int:
    """The open time that many minutes after the first sample."""
    return OPEN_MS + minute * MINUTE_MS


def a_ledger() -> Ledger:
    """A ledger of ten closed minutes, except 3, which is missing, and 7, which is absent."""
    ledger = Ledger(Interval.M1, grace_ms=0)
    ledger.begin(at(0))
    for minute in (0, 1, 2, 4, 5, 6, 8, 9):
        ledger.close(at(minute), now_ms=0)
    ledger.fall_due(at(10))
    ledger.give_up(at(7), at(8), Absence(Absent.NO_CANDLE))
    return ledger


def test_all_but_gaps_and_absences_counts_as_closed() -> None:
    """From the ledger's first candle to its horizon, within the audited range."""
    spans = [(at(1), at(3)), (at(4), at(7)), (at(8), at(9))]
    assert [span[:2] for span in closed_within(a_ledger(), at(1), at(9))] == spans
    everything = [span[:2] for span in closed_within(a_ledger(), 0, at(99))]
    assert everything == [(at(0), at(3)), (at(4), at(7)), (at(8), at(10))]
    assert list(closed_within(a_ledger(), at(20), at(30))) == []


def test_what_is_stored_is_not_suspect() -> None:
    """Candles that are stored in addition do no harm."""
    suspects = closed_within(a_ledger(), at(0), at(10))
    left = without(suspects, [(at(0), at(3)), (at(6), at(8))], Interval.M1)
    assert list(opens_of(left, Interval.M1)) == [at(4), at(5), at(9)]


def test_rows_on_their_way_and_known_gaps_are_not_suspect() -> None:
    """A row in memory will be stored; a row that was lost since is missing."""
    ledger = a_ledger()
    ledger.reopen(at(5), now_ms=0)
    suspects = [Span(at(2), at(7), None), Span(at(9), at(10), None)]
    left = still_suspect(suspects, ledger, [a_kline(2), a_kline(8)])
    assert list(opens_of(left, Interval.M1)) == [at(4), at(6), at(9)]
