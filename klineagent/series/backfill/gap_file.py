"""The gap file beside the state file: known gaps survive restarts. It never blocks recording."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import NoReturn

import structlog
import trio
from attrs import define, evolve, field, frozen

from klineagent.core.errors import StateError, StateUnreadable
from klineagent.core.retry import Trouble
from klineagent.series.backfill.known_gaps import (
    GapsByVenue,
    KnownGaps,
    SavedGaps,
    Series,
    decode,
    encode,
    known_gaps,
)
from klineagent.series.desired.beside import FileBeside
from klineagent.series.registry import Registry
from klineagent.storage.spool.disk import Files
from klineagent.storage.writing.writer import Writer

# New gaps are saved soon, because a lost row may be older than the range of the next startup scan;
# the times without new gaps are saved less often.
SOON_S = 2.0
EVERY_S = 60.0
LATER_S = 0.1
# Series between two checkpoints: some milliseconds.
AT_ONCE = 300

log = structlog.get_logger()


@frozen(kw_only=True)
class GapFile(FileBeside):
    """The gap file of an agent."""

    SUFFIX = ".gaps"
    KIND = "known gaps"

    async def load(self, *, is_ours: bool = True) -> GapsByVenue:
        """Load what was saved last; an unreadable file is logged, and moved aside if it is ours.

        Raises:
            StateUnreadable: a newer klineagent wrote the file, which stays as it is.
        """

        def read(files: Files) -> GapsByVenue:
            try:
                return decode(files.read(self.name), store=self.store)
            except FileNotFoundError:
                return GapsByVenue()
            except (OSError, ValueError) as error:
                damage = str(error)
            kept = self.name
            if is_ours:  # the next save takes its name
                with suppress(OSError):
                    kept = self.set_aside(files)
            log.error("gaps_unreadable", error=damage, kept=kept)
            return GapsByVenue(is_whole=False)

        try:
            return await self.disk.run(read)
        except StateUnreadable as error:
            raise StateUnreadable(f"{self.label}: {error}") from error

    async def save(self, known: GapsByVenue) -> None:
        """Save `known`; on return it survives power loss.

        Raises:
            StateError: it may not survive; then what was saved before does.
        """
        await self.write(encode(known, store=self.store))


@define(eq=False)
class GapSaver:
    """Saves known gaps to `file`; without a file they end with the process."""

    file: GapFile | None
    known: GapsByVenue = field(factory=GapsByVenue)
    """The gaps that were saved last, also of series that do not run any more."""

    async def load(self) -> None:
        """Load what the last run saved.

        Raises:
            StateUnreadable: see `GapFile.load`.
        """
        if self.file is not None:
            self.known = await self.file.load()

    def known_of(self, venue: str, series: Series) -> KnownGaps | None:
        """Return what was saved last of a series; None if it never ran."""
        return self.known.of(venue).of(series)

    async def run(self, registries: Callable[[], Iterable[Registry]], writer: Writer) -> None:
        """Save the gaps of all series, again and again; the last save suffices at the stop."""
        if self.file is not None:
            await self._run(self.file, registries, writer)

    async def _run(
        self, file: GapFile, registries: Callable[[], Iterable[Registry]], writer: Writer
    ) -> NoReturn:
        trouble = Trouble("gaps_not_saved", "gaps_saved")
        saved_at, saved_found = -math.inf, 0
        while True:
            await trio.sleep(SOON_S)
            running = [*registries()]
            found = sum(each.context.tally.found.total() for each in running)
            if found == saved_found and trio.current_time() - saved_at < EVERY_S:
                continue
            try:
                await self._save(file, running, writer)
            except StateError as error:
                trouble.lasts(error, alarm=True)
                await trio.sleep(EVERY_S)
            else:
                trouble.over()
                saved_at, saved_found = trio.current_time(), found

    async def _save(self, file: GapFile, registries: Iterable[Registry], writer: Writer) -> None:
        venues = dict(self.known.venues)
        for registry in registries:
            venue = registry.venue.name
            known = self.known.of(venue)
            venues[venue] = evolve(known, gaps=await self._gaps_of(registry, known, writer))
        content = evolve(self.known, venues=venues)
        await file.save(content)
        self.known = content

    async def _gaps_of(
        self, registry: Registry, known: SavedGaps, writer: Writer
    ) -> Mapping[Series, KnownGaps]:
        """Return what is `known` of a venue, renewed for the series that run."""
        gaps, series = dict(known.gaps), registry.subscriptions()
        for at in range(0, len(series), AT_ONCE):
            # Until the rows at risk are known, the earlier save stays, which is never wrong.
            while (at_risk := writer.at_risk()) is None:  # noqa: ASYNC110 - there is no event
                await trio.sleep(LATER_S)
            # No checkpoint between reading rows and ledgers: both must be of one moment.
            # A series that was removed meanwhile does not learn of dropped rows any more.
            running = [each for each in series[at : at + AT_ONCE] if not each.scope.cancel_called]
            ours = (row for row in at_risk if row.venue == registry.venue.name)
            gaps |= known_gaps(running, ours)
            await trio.lowlevel.checkpoint()
        return gaps
