"""What was lost stays known, with what became of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klineagent.core.interval import MINUTE_MS, SECOND_MS, Interval
from klineagent.series.ledger import Ledger
from klineagent.series.losses import MOST_SPANS, NO_LOSSES
from klineagent.series.marks import Absence, Absent, Loss, Missing, Urgency

START_MS = 1_769_904_000_000
GRACE_MS = 5 * SECOND_MS
CANDLES = 12
OPENS = [START_MS + number * MINUTE_MS for number in range(CANDLES)]


def a_ledger() -> Ledger:
    """A ledger of minutes from February 2026 on."""
    ledger = Ledger(Interval.M1, GRACE_MS)
    ledger.begin(START_MS)
    return ledger


@pytest.mark.parametrize("urgency", [*Urgency])
def test_a_series_that_loses_nothing_remembers_nothing(urgency: Urgency) -> None:
    """Nor does history that is fetched count as lost, nor what an earlier run left missing."""
    ledger = a_ledger()
    history = START_MS - 10 * MINUTE_MS
    ledger.expect(history, START_MS, Missing(urgency))
    for open_ms in (*OPENS, history):
        assert ledger.close(open_ms, now_ms=open_ms + MINUTE_MS)
    assert ledger.losses is NO_LOSSES
    assert len(NO_LOSSES) == 0


def test_an_outage_is_one_loss_from_its_first_candle_on() -> None:
    """It heals as one, although its candles come one by one."""
    ledger = a_ledger()
    for open_ms in OPENS:
        ledger.fall_due(open_ms + GRACE_MS)
    found_ms = OPENS[1] + GRACE_MS
    assert [*ledger.losses] == [(START_MS, OPENS[-1], Loss(Urgency.MISSED, found_ms))]
    for number, open_ms in enumerate(OPENS[:-1]):
        ledger.close(open_ms, now_ms=OPENS[-1] + 20 * SECOND_MS + number)
    healed = Loss(Urgency.MISSED, found_ms, came_ms=OPENS[-1] + 20 * SECOND_MS)
    assert [*ledger.losses] == [(START_MS, OPENS[-1], healed)]
    assert ledger.losses.at(OPENS[-1]) is None


def test_no_candle_comes_before_it_was_lost() -> None:
    """Nor is one that the store refuses lost in 1970."""
    ledger = a_ledger()
    ledger.close(START_MS, now_ms=OPENS[1])
    ledger.reopen(START_MS, now_ms=OPENS[1] + 300)
    ledger.close(START_MS, now_ms=OPENS[1] + 700)
    [healed] = ledger.losses
    assert (healed.mark.found_ms, healed.mark.came_ms) == (OPENS[1] + 300, OPENS[1] + 300)
    ledger.close(OPENS[1], now_ms=OPENS[2])
    ledger.set_aside(OPENS[1], now_ms=OPENS[3])
    refused = ledger.losses.at(OPENS[1])
    assert refused is not None
    assert refused.found_ms == OPENS[3]


def test_what_does_not_exist_was_not_lost_for_long() -> None:
    """The reason stays beside how it came to be missing; what comes after all has healed."""
    ledger = a_ledger()
    ledger.fall_due(OPENS[3] + GRACE_MS)
    ledger.give_up(OPENS[1], OPENS[2], Absence(Absent.NO_CANDLE))
    lost = ledger.losses.at(OPENS[1])
    assert lost is not None
    assert (lost.is_over, lost.given_up, lost.came_ms) == (True, Absent.NO_CANDLE, None)
    ledger.disprove(OPENS[1], OPENS[2])
    ledger.close(OPENS[1], now_ms=OPENS[5])
    lost = ledger.losses.at(OPENS[1])
    assert lost is not None
    assert (lost.given_up, lost.came_ms) == (None, OPENS[5])


def test_a_clock_that_was_ahead_has_lost_nothing() -> None:
    """What is forming yet cannot be lost."""
    ledger = a_ledger()
    ledger.fall_due(OPENS[6] + GRACE_MS)
    ledger.rewind(OPENS[2] + SECOND_MS)
    assert [(each.first_ms, each.end_ms) for each in ledger.losses] == [(START_MS, OPENS[2])]


def test_of_many_losses_the_newest_are_remembered() -> None:
    """A series that fails each other minute takes no more room than that."""
    ledger = a_ledger()
    for number in range(4 * MOST_SPANS):
        ledger.fall_due(ledger.deadline_ms)
        ledger.close(ledger.horizon_ms, now_ms=ledger.horizon_ms + MINUTE_MS)
        assert len(ledger.losses) == min(number + 1, MOST_SPANS)
    assert [each.end_ms for each in ledger.losses][-1] == ledger.horizon_ms - MINUTE_MS


@given(st.data())
def test_every_lost_candle_is_known_with_its_fate(data: st.DataObject) -> None:
    """Whatever happens in whatever order: what is missing is lost, what came has come."""
    ledger = a_ledger()
    ever: set[int] = set()
    now_ms = START_MS
    for _ in range(data.draw(st.integers(1, 30))):
        now_ms += data.draw(st.integers(0, 2)) * MINUTE_MS // 2
        open_ms = data.draw(st.sampled_from(OPENS))
        match data.draw(st.sampled_from(["tick", "away", "close", "reopen", "absent"])):
            case "tick":
                ledger.fall_due(now_ms)
            case "away":
                ledger.fall_due(now_ms, stream_was_away=True)
            case "close":
                if open_ms <= now_ms:
                    ledger.close(open_ms, now_ms=now_ms)
            case "reopen":
                if ledger.has_closed(open_ms):
                    ledger.reopen(open_ms, now_ms=now_ms)
            case _:
                ledger.give_up(open_ms, open_ms + MINUTE_MS, Absence(Absent.NO_CANDLE))
        ever |= {each for each in OPENS if each in ledger.gaps}
        for each in OPENS:
            loss = ledger.losses.at(each)
            assert (loss is not None) == (each in ever)
            if loss is not None:
                assert loss.is_over == (each not in ledger.gaps)
                assert (loss.given_up is not None) == (each in ledger.absences)
