"""The proof's reader: it finds answers that are wrong, old or short, and none where none are."""

from __future__ import annotations

import pytest
from attrs import evolve

from klineagent.proof.plan import ProofFailed, ProofPlan
from klineagent.proof.reading import TRUE
from klineagent.proof.run import prove
from klineagent.proof.schedule import KINDS
from tests.proof.reading_mutants import READING_MUTANTS

# A run of spot, whose halts have no candles.
PLAN = ProofPlan(seed=3, days=0.4, symbols=2, kinds=KINDS)


def test_what_the_real_agent_answers_is_true() -> None:
    """Through faults, kills and restarts; more than half of the reads are answered."""
    report = prove(evolve(PLAN, days=0.2))
    assert report.reads[TRUE] > report.reads.total() / 2
    assert report.heard["closed candles"] > 900


@pytest.mark.parametrize("mutant", READING_MUTANTS)
def test_an_agent_that_answers_wrongly_is_caught(mutant: str) -> None:
    """It has one defect, and a few simulated hours expose it."""
    with (
        READING_MUTANTS[mutant](),
        pytest.RaisesGroup(
            pytest.RaisesExc(ProofFailed, match="klines|candles"),
            allow_unwrapped=True,
            flatten_subgroups=True,
        ),
    ):
        prove(PLAN)
