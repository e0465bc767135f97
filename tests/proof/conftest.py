"""What proofs do to the process, undone."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator

import pytest
import structlog
from trio._core import _run


@pytest.fixture(autouse=True)
def _no_unclaimed_errors() -> None:
    """In a storm errors are logged as they should be; nobody reads the thousands of lines."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


@pytest.fixture(autouse=True)
def _proofs_leave_no_trace(_no_unclaimed_errors: None) -> Iterator[None]:
    """A proof seeds Trio's scheduler and the module's dice for good; here both are put back."""
    state = random.getstate()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_ALLOW_DETERMINISTIC_SCHEDULING", "_r"):
            patch.setattr(_run, name, getattr(_run, name))
        yield
    random.setstate(state)
