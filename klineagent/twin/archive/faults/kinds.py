"""The kinds of the archive's faults by the names that options have for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial

from klineagent.twin.archive.faults.faults import ArchiveFaults

_Block = AbstractContextManager[None]

FILES: Mapping[str, tuple[Callable[..., _Block], float | None]] = {
    "archive-off-grid": (ArchiveFaults.off_grid, None),
    "archive-cut-closes": (ArchiveFaults.cut_closes, None),
    "archive-holes": (ArchiveFaults.holes, None),
    "archive-flat-rows": (ArchiveFaults.flat_rows, None),
    "archive-wrong-volumes": (ArchiveFaults.wrong_volumes, None),
    "archive-impossible-rows": (ArchiveFaults.impossible_rows, None),
    "archive-repeated-rows": (ArchiveFaults.repeated_rows, None),
    "archive-unequal-rows": (ArchiveFaults.unequal_rows, None),
    "archive-unsorted-rows": (ArchiveFaults.unsorted_rows, None),
    "archive-stale-days": (ArchiveFaults.stale_days, None),
    "archive-lacking-days": (ArchiveFaults.lacking_days, None),
    "archive-half-days": (ArchiveFaults.half_days, 60),
    "archive-early-ends": (ArchiveFaults.early_ends, 90),
    "archive-late-files": (ArchiveFaults.unpublished, 3),
    "archive-lost-files": (ArchiveFaults.unpublished, None),
    "archive-absent-months": (ArchiveFaults.absent_months, None),
    "archive-wrong-checksums": (ArchiveFaults.wrong_checksums, None),
    "archive-passing-checksums": (ArchiveFaults.wrong_checksums, 1),
    "archive-no-checksums": (ArchiveFaults.no_checksums, None),
    "archive-no-zips": (ArchiveFaults.no_zips, None),
    "archive-headers": (partial(ArchiveFaults.headers, present=True), None),
    "archive-no-headers": (partial(ArchiveFaults.headers, present=False), None),
    "archive-microseconds": (ArchiveFaults.microseconds, None),
    "archive-rewriting": (ArchiveFaults.rewriting, 60),
}
"""Faults of files, and after how many days files are rewritten without them; None for never."""
ANSWERS: Mapping[str, Callable[[ArchiveFaults, float], _Block]] = {
    "archive-refusing": lambda faults, share: faults.refusing(503, share, retry_after_s=2),
    "archive-throttling": lambda faults, share: faults.refusing(429, share, retry_after_s=10),
    "archive-forbidding": lambda faults, share: faults.refusing(403, share),
    "archive-cut-bodies": ArchiveFaults.cut_bodies,
}
"""Faults of answers, with a share of them."""
REUSED_NAMES = "archive-reused-names"
"""With a share of the symbols."""
SLOW_BODIES = "archive-slow-bodies"
"""With a number of bytes a second."""
SHARES = (*FILES, *ANSWERS, REUSED_NAMES)
"""All that take a share."""
