"""The archive's faults as command-line options."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from klineagent.twin.archive.archive import PublicArchive
from klineagent.twin.archive.faults.fault import Where
from klineagent.twin.archive.faults.kinds import ANSWERS, FILES, REUSED_NAMES, SLOW_BODIES
from klineagent.twin.archive.key import number_of
from klineagent.twin.faults.options import FaultOption
from klineagent.twin.interval import DAY_MS

# A coin that has lost its name lived for a quarter, and a month passed before the next one had it.
_LIVED_MS, _PAUSE_MS = 90 * DAY_MS, 30 * DAY_MS
_CERTAIN = 2**64


@contextmanager
def archive_faults(archive: PublicArchive, options: Sequence[FaultOption]) -> Iterator[None]:
    """Inject those of `options` that strike the archive, until the block ends."""
    with ExitStack() as blocks:
        for option in options:
            if option.kind in FILES:
                method, for_days = FILES[option.kind]
                where = Where(share=option.value)
                if option.venue is not None:
                    where["venue"] = option.venue
                if for_days is not None:
                    where["for_days"] = for_days
                blocks.enter_context(method(archive.faults, **where))
            elif option.kind in ANSWERS:
                blocks.enter_context(ANSWERS[option.kind](archive.faults, option.value))
            elif option.kind == SLOW_BODIES:
                blocks.enter_context(archive.faults.slow_bodies(option.value))
            elif option.kind == REUSED_NAMES:
                _reuse(archive, option, blocks)
        yield


def _reuse(archive: PublicArchive, option: FaultOption, blocks: ExitStack) -> None:
    """Let a share of the symbols have been other coins'."""
    for venue_name, venue in archive.venues.items():
        if option.venue not in {None, venue_name}:
            continue
        for symbol, listing in venue.listings.items():
            if number_of(f"{archive.seed}/{symbol}") < option.value * _CERTAIN:
                until_ms = listing.onboard_ms - _PAUSE_MS
                since_ms = until_ms - _LIVED_MS
                block = archive.reusing(venue_name, symbol, since_ms=since_ms, until_ms=until_ms)
                blocks.enter_context(block)
