"""Frames that were recorded from the exchange; they are kept beside the project."""

from __future__ import annotations

import json

import pytest

from tests.places import RECORDED


def recorded_frames(name: str) -> list[str]:
    """Read the frames in file `name`; without the file the test is skipped."""
    path = RECORDED / name
    if not path.exists():
        pytest.skip(f"the recorded frames are not beside the project: {path.name}")
    return [json.loads(state)["frame"] for state in path.read_text().splitlines()]
