"""The browser of the machine, for tests that want one."""

from __future__ import annotations

import os
import shutil

import pytest


def chromium() -> str:
    """Find Chromium; where there is none the test is skipped, unless `CI=true` promised one."""
    program = shutil.which("chromium")
    if program is None:
        reason = "no chromium is installed (Debian: apt-get install chromium)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return program
