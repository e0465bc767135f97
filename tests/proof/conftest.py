"""Fixtures that undo what proofs change in the process."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator

import pytest
import structlog
from trio._core import _run


@pytest.fixture(autouse=True)
def _no_unclaimed_errors() -> None:
    """Silence the thousands of errors that agents log under a fault schedule."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


@pytest.fixture(autouse=True)
def _proofs_leave_no_trace(_no_unclaimed_errors: None) -> Iterator[None]:
    """Restore Trio's scheduler and the `random` module, which a proof seeds for good."""
    state = random.getstate()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_ALLOW_DETERMINISTIC_SCHEDULING", "_r"):
            patch.setattr(_run, name, getattr(_run, name))
        yield
    random.setstate(state)
