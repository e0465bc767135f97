"""Where things lie that tests read."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]
"""The checkout."""
_SHARED = ROOT.parent / "shared" / "data"
ARCHIVE = _SHARED / "archive"
"""Files of the exchange's archive; they lie beside the checkout, if at all."""
RECORDED = _SHARED / "recorded"
"""Answers and frames of the exchange; likewise."""
EARLIER = ROOT / "tests" / "storage" / "earlier"
"""Files that earlier agents have written."""
