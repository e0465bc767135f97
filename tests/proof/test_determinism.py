"""A failure can be reproduced: a run depends on its plan and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys

_PROVE = """
import logging, sys
import structlog
from klineagent.proof.plan import ProofPlan
from klineagent.proof.run import prove
from klineagent.proof.schedule import KINDS

structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
for seed in map(int, sys.argv[1:]):
    report = prove(ProofPlan(seed=seed, days=0.2, symbols=2, kinds=KINDS))
    print(report.digest, report.candles, report.starts, sorted(report.injected.items()))
"""


def _reports(hash_seed: int, *seeds: int) -> list[str]:
    """Run `seeds` one after the other in a process of its own and return its output lines."""
    process = subprocess.run(
        [sys.executable, "-c", _PROVE, *map(str, seeds)],
        env={**os.environ, "PYTHONHASHSEED": str(hash_seed)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return process.stdout.splitlines()


def test_the_same_plan_makes_the_same_history_in_any_process() -> None:
    """The order of sets, the time of day and earlier runs make no difference."""
    first, third = _reports(1, 1, 3)
    assert _reports(2, 3, 1) == [third, first]
    assert first.split()[0] != third.split()[0]
