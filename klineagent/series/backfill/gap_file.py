"""The file beside the state that lets known gaps survive the process; it never blocks recording."""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import PurePath
from typing import NoReturn

import structlog
import trio
from attrs import define, evolve, field, frozen

from klineagent.core.errors import StateError, StateUnreadable
from klineagent.core.retry import Trouble
from klineagent.series.backfill.known_gaps import (
    KnownGaps,
    SavedGaps,
    Series,
    decode,
    encode,
    known_gaps,
)
from klineagent.series.desired.state_file import StateFile
from klineagent.series.registry import Registry
from klineagent.storage.spool.disk import TEMPORARY, Disk, Files, write_durably
from klineagent.storage.url import place
from klineagent.storage.writing.writer import Writer

SUFFIX = ".gaps"
"""What the file is called, after the name of the state's."""
UNREADABLE = ".unreadable"
"""What it is called from when it could not be read, after its own name."""
# New gaps are written soon, for a row that was lost may be older than what the next start looks
# through; times move on now and then.
SOON_S = 2.0
EVERY_S = 60.0
LATER_S = 0.1
# Some milliseconds, then others get their turn.
AT_ONCE = 300

log = structlog.get_logger()


@frozen(kw_only=True)
class GapFile:
    """File `name` on `disk`, which whoever opened it holds."""

    disk: Disk
    name: str
    venue: str
    store: str
    """The place of the store it is about."""

    @classmethod
    def beside(cls, state: StateFile, *, store: str) -> GapFile:
        """The one that goes with `state`, under its lock, and with the store of that label."""
        return cls(
            disk=state.disk, name=state.name + SUFFIX, venue=state.venue.name, store=place(store)
        )

    @property
    def label(self) -> str:
        """What a user calls it."""
        return str(PurePath(self.disk.label) / self.name)

    async def load(self) -> SavedGaps:
        """What was saved last; where that cannot be read it is told, and nothing is known.

        Raises:
            StateUnreadable: a newer klineagent wrote it; it stays as it is.
        """

        def read(files: Files) -> SavedGaps:
            try:
                return decode(files.read(self.name), venue=self.venue, store=self.store)
            except FileNotFoundError:
                return SavedGaps()
            except (OSError, ValueError) as error:
                damage = str(error)
            aside = self.name + UNREADABLE
            with suppress(OSError):  # the next save takes its name
                files.rename(self.name, aside)
            log.error("gaps_unreadable", error=damage, kept=aside)
            return SavedGaps(is_whole=False)

        try:
            return await self.disk.run(read)
        except StateUnreadable as error:
            raise StateUnreadable(f"known gaps {self.label}: {error}") from error

    async def save(self, known: SavedGaps) -> None:
        """Keep `known`; on return it survives power loss.

        Raises:
            StateError: it is not sure whether it does; what was saved before does otherwise.
        """

        def save(files: Files) -> None:
            content = encode(known, venue=self.venue, store=self.store)
            try:
                files.unlink(self.name + TEMPORARY)  # of an agent that was killed while it wrote
                write_durably(files, "", self.name, content)
            except OSError as error:
                reason = error.strerror or error
                raise StateError(f"known gaps {self.label}: {reason}") from error

        await self.disk.run(save)


@define(eq=False, kw_only=True)
class GapSaver:
    """Writes down what is known to be missing; without a file that dies with the process."""

    file: GapFile | None = None
    known: SavedGaps = field(factory=SavedGaps)
    """What was saved last, of series that do not run any more, too."""

    async def load(self) -> None:
        """Read what the last run wrote down; raises `StateUnreadable`."""
        if self.file is not None:
            self.known = await self.file.load()

    def known_of(self, series: Series) -> KnownGaps | None:
        """What was written down last of a series; None if it never ran."""
        return self.known.of(series)

    async def run(self, registry: Registry, writer: Writer) -> None:
        """Save again and again what is known of all series; what was saved last does at the end."""
        if self.file is not None:
            await self._run(self.file, registry, writer)

    async def _run(self, file: GapFile, registry: Registry, writer: Writer) -> NoReturn:
        trouble = Trouble("gaps_not_saved", "gaps_saved")
        saved_at, saved_found = -math.inf, 0
        while True:
            await trio.sleep(SOON_S)
            found = registry.context.tally.found.total()
            if found == saved_found and trio.current_time() - saved_at < EVERY_S:
                continue
            try:
                await self._save(file, registry, writer)
            except StateError as error:
                trouble.lasts(error, alarm=True)
                await trio.sleep(EVERY_S)
            else:
                trouble.over()
                saved_at, saved_found = trio.current_time(), found

    async def _save(self, file: GapFile, registry: Registry, writer: Writer) -> None:
        gaps = dict(self.known.gaps)
        series = registry.subscriptions()
        for at in range(0, len(series), AT_ONCE):
            # What nobody can tell of now stays as it was written down, which is right for ever.
            while (at_risk := writer.at_risk()) is None:  # noqa: ASYNC110 - nobody tells of it
                await trio.sleep(LATER_S)
            # These rows and ledgers are of one moment, without a checkpoint between them.
            gaps |= known_gaps(series[at : at + AT_ONCE], at_risk)
            await trio.lowlevel.checkpoint()
        known = evolve(self.known, gaps=gaps)
        await file.save(known)
        self.known = known
