"""The proof's listener: it finds events that are wrong, doubled, out of turn or left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import pytest

from klineagent.core.kline import Kline
from klineagent.proof.plan import ProofFailed, ProofPlan
from klineagent.proof.run import prove
from klineagent.proof.schedule import KINDS
from klineagent.reading.streams import hub
from klineagent.reading.streams.events import CandleEvent, EventFormat
from klineagent.reading.streams.hub import StreamHub
from klineagent.reading.streams.order import CandleOrder
from tests.proof.reading_mutants import patched

# A run of spot, whose halts have no candles.
PLAN = ProofPlan(seed=3, days=0.3, symbols=2, kinds=KINDS)


def fetched_untold() -> AbstractContextManager[None]:
    """Tell only what the exchange's streams told."""
    follow = StreamHub.follow

    def streamed(self: StreamHub, klines: Sequence[Kline], frames: Sequence[bytes]) -> None:
        if frames:
            follow(self, klines, frames)

    return patched(StreamHub, "follow", streamed)


def as_they_come() -> AbstractContextManager[None]:
    """Hand on every event in the order in which it came."""
    return patched(CandleOrder, "put", lambda _, event: [event])


def late_ones_dropped() -> AbstractContextManager[None]:
    """Never tell of a candle that was given up and comes after all."""
    return patched(CandleOrder, "put", _without_late(CandleOrder.put))


def _without_late(put: Callable[[CandleOrder, CandleEvent], list[CandleEvent]]) -> Any:
    def put_on(self: CandleOrder, event: CandleEvent) -> list[CandleEvent]:
        return [] if event.open_ms < self._next_ms else put(self, event)

    return put_on


def other_decimals() -> AbstractContextManager[None]:
    """Write fetched candles with as few decimals as can be."""
    return patched(hub.StreamHub, "_format", lambda *_: EventFormat(SHORT))


SHORT = (
    '"i":"%s","f":%d,"L":%d,"o":"%s","c":"%s","h":"%s","l":"%s","v":"%s","n":%d,"x":%s,"q":"%s",'
    '"V":"%s","Q":"%s","B":"0"'
)


@pytest.mark.parametrize(
    "mutant", [fetched_untold, as_they_come, late_ones_dropped, other_decimals]
)
def test_an_agent_that_tells_wrongly_is_caught(
    mutant: Callable[[], AbstractContextManager[None]],
) -> None:
    """It has one defect, and a few simulated hours expose it."""
    with (
        mutant(),
        pytest.RaisesGroup(
            pytest.RaisesExc(ProofFailed, match="a stream of"),
            allow_unwrapped=True,
            flatten_subgroups=True,
        ),
    ):
        prove(PLAN)
