"""The proof of the proof: what it cannot find is no proof of anything."""

from __future__ import annotations

import pytest

from klineagent.proof.plan import Plan, ProofFailed
from klineagent.proof.run import prove
from klineagent.proof.schedule import KINDS
from tests.proof.mutants import MUTANTS, STRUCK_BY

SEEDS = (1, 2, 3)


def plan_of(seed: int, mutant: str = "") -> Plan:
    """A few hours of all faults, or of those that strike one mutant, and these more often."""
    if mutant == "gaps_forgotten":
        seed = 4 * seed + 1  # its agents look back so little that they must remember
    if mutant in STRUCK_BY:
        return Plan(seed=seed, days=0.3, symbols=2, kinds=STRUCK_BY[mutant], pause_s=900)
    return Plan(seed=seed, days=0.4, symbols=2, kinds=KINDS)


@pytest.mark.parametrize("seed", SEEDS)
def test_an_agent_that_is_whole_passes(seed: int) -> None:
    """What catches the broken ones has nothing to say against the real one."""
    report = prove(plan_of(seed))
    assert report.candles > 2_000
    assert report.repairs["of these after a missed deadline"] > 0


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_deliberately_broken_agent_is_caught_every_time(mutant: str, seed: int) -> None:
    """One thing is wrong with it, and a few hours bring that to light."""
    with (
        MUTANTS[mutant](),
        pytest.RaisesGroup(ProofFailed, allow_unwrapped=True, flatten_subgroups=True),
    ):
        prove(plan_of(seed, mutant))
