"""The proof of the proof: what it cannot find is no proof of anything."""

from __future__ import annotations

import pytest

from klineagent.proof.plan import Plan, ProofFailed
from klineagent.proof.run import prove
from klineagent.proof.storm import KINDS
from tests.proof.mutants import MUTANTS

SEEDS = (1, 2, 3)


def _plan(seed: int) -> Plan:
    return Plan(seed=seed, days=0.4, symbols=2, kinds=KINDS)


@pytest.mark.parametrize("seed", SEEDS)
def test_an_agent_that_is_whole_passes(seed: int) -> None:
    """What catches the broken ones has nothing to say against the real one."""
    report = prove(_plan(seed))
    assert report.candles > 4_000
    assert report.repairs["of these after a missed deadline"] > 0


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_deliberately_broken_agent_is_caught_every_time(mutant: str, seed: int) -> None:
    """One thing is wrong with it, and a few hours bring that to light."""
    with (
        MUTANTS[mutant](),
        pytest.RaisesGroup(ProofFailed, allow_unwrapped=True, flatten_subgroups=True),
    ):
        prove(_plan(seed))
