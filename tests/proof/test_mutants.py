"""The proof of the proof: it catches agents with a defect built in."""

from __future__ import annotations

import pytest

from klineagent.proof.plan import ProofFailed, ProofPlan
from klineagent.proof.run import prove
from klineagent.proof.schedule import KINDS
from tests.proof.mutants import MUTANTS, STRUCK_BY

SEEDS = (1, 2, 3)


def plan_of(seed: int, mutant: str = "") -> ProofPlan:
    """A plan of a few hours with all faults, or with those that expose one mutant, more often."""
    if mutant == "gaps_forgotten":
        seed = 4 * seed + 1  # its agents look back so little that they must remember
    if mutant in STRUCK_BY:
        return ProofPlan(seed=seed, days=0.3, symbols=1, kinds=STRUCK_BY[mutant], pause_s=900)
    return ProofPlan(seed=seed, days=0.4, symbols=2, kinds=KINDS)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_real_agent_passes(seed: int) -> None:
    """Under the plans that catch the mutants."""
    report = prove(plan_of(seed))
    assert report.candles > 2_000
    assert report.repairs["of these after a missed deadline"] > 0


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_deliberately_broken_agent_is_caught_every_time(mutant: str, seed: int) -> None:
    """It has one defect, and a few simulated hours expose it."""
    with (
        MUTANTS[mutant](),
        pytest.RaisesGroup(ProofFailed, allow_unwrapped=True, flatten_subgroups=True),
    ):
        prove(plan_of(seed, mutant))
