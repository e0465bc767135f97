from __future__ import annotations

import gc
import sys
from collections.abc import Iterator

import pytest

from klineagent.process.interpreter import SWITCH_EVERY_S, answer_promptly


@pytest.fixture
def _restored() -> Iterator[None]:
    before = sys.getswitchinterval()
    yield
    gc.unfreeze()
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("_restored")
def test_threads_take_short_turns_and_what_is_loaded_is_not_scanned_again() -> None:
    """A process that serves must not pause for its worker threads, or for its own size."""
    answer_promptly()
    assert sys.getswitchinterval() == pytest.approx(SWITCH_EVERY_S)
    assert gc.get_freeze_count() > 0
