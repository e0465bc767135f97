"""The archive's active faults: what it really had, and what networks do.

A fault lasts as long as its `with` block. Which files and days are struck follows from the seed and
their names alone, so a file has the same bytes whenever it is made. When a fault ends, the files
that had it are rewritten: they have a new ETag, and that time as `LastModified`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal, Unpack

import trio
from attrs import define, evolve, field

from klineagent.twin.archive.answer import XML, ArchiveAnswer
from klineagent.twin.archive.bucket import error_answer
from klineagent.twin.archive.faults import rows as row_faults
from klineagent.twin.archive.faults.fault import ArchiveFault, PublishedFile, Where
from klineagent.twin.archive.faults.rows import Distortion
from klineagent.twin.archive.key import Cadence, TwinFile
from klineagent.twin.faults.blocks import FaultBlocks
from klineagent.twin.faults.events import Chance

_Block = AbstractContextManager[None]
_REFUSALS = {
    403: ("AccessDenied", "Access Denied"),
    429: ("TooManyRequests", "Please reduce your request rate."),
    503: ("SlowDown", "Please reduce your request rate."),
}


@define(kw_only=True, eq=False)
class ArchiveFaults(FaultBlocks):
    """The faults that are active, and a count of all that struck."""

    _now_ms: Callable[[], int]
    _start_ms: int = field(init=False)
    _active: dict[int, ArchiveFault] = field(init=False, factory=dict)
    # What struck files until a time: they were rewritten then.
    _ended: list[tuple[int, ArchiveFault]] = field(init=False, factory=list)
    # Faults of answers, in the order in which they began.
    _refusals: dict[int, tuple[Chance, int, int | None]] = field(init=False, factory=dict)
    _cuts: dict[int, Chance] = field(init=False, factory=dict)
    _paces: dict[int, float] = field(init=False, factory=dict)
    _hangs: dict[int, trio.Event] = field(init=False, factory=dict)

    @_start_ms.default
    def _note_start(self) -> int:
        return self._now_ms()

    # Rows. Each strikes days, of daily and monthly files alike unless it says otherwise.

    def off_grid(self, **where: Unpack[Where]) -> _Block:
        """Rows open and close 14 seconds late, some hundred a day."""
        return self._distorting("off_grid", row_faults.off_grid, where)

    def cut_closes(self, **where: Unpack[Where]) -> _Block:
        """One row a day has a close time before its interval ends."""
        return self._distorting("cut_closes", row_faults.cut_close, where)

    def holes(self, **where: Unpack[Where]) -> _Block:
        """Up to two hours of rows are missing that REST has."""
        return self._distorting("holes", row_faults.hole, where)

    def flat_rows(self, **where: Unpack[Where]) -> _Block:
        """Up to two hours of rows have no volume where REST has some."""
        return self._distorting("flat_rows", row_faults.flat_rows, where)

    def wrong_volumes(self, **where: Unpack[Where]) -> _Block:
        """Five rows a day have less volume than REST."""
        return self._distorting("wrong_volumes", row_faults.wrong_volumes, where)

    def impossible_rows(self, **where: Unpack[Where]) -> _Block:
        """Five rows a day have a high below their low."""
        return self._distorting("impossible_rows", row_faults.impossible, where)

    def repeated_rows(self, **where: Unpack[Where]) -> _Block:
        """Every row of a day is in the file three times."""
        return self._distorting("repeated_rows", row_faults.repeated, where)

    def unequal_rows(self, **where: Unpack[Where]) -> _Block:
        """Every row of a day is in the file twice, with other values."""
        return self._distorting("unequal_rows", row_faults.unequal, where)

    def unsorted_rows(self, **where: Unpack[Where]) -> _Block:
        """The rows of a day are in no order."""
        return self._distorting("unsorted_rows", row_faults.unsorted, where)

    def stale_days(self, **where: Unpack[Where]) -> _Block:
        """All rows of a day differ in a monthly file from the daily one, which agrees with REST."""
        return self._distorting("stale_days", row_faults.stale, where, Cadence.MONTHLY)

    def lacking_days(self, **where: Unpack[Where]) -> _Block:
        """A monthly file is without whole days that daily files have."""
        return self._distorting("lacking_days", row_faults.without_days, where, Cadence.MONTHLY)

    def half_days(self, **where: Unpack[Where]) -> _Block:
        """A daily file ends in the middle of the day."""
        return self._distorting("half_days", row_faults.half, where, Cadence.DAILY)

    # Files.

    def early_ends(self, **where: Unpack[Where]) -> _Block:
        """A monthly file is without its last days, a week at most."""
        distort = row_faults.early_end
        return self._striking("early_ends", where, cadence=Cadence.MONTHLY, distort=distort)

    def unpublished(self, **where: Unpack[Where]) -> _Block:
        """A file is not there; with `for_days` it is that late."""
        return self._striking("unpublished", where, hides=True)

    def absent_months(self, **where: Unpack[Where]) -> _Block:
        """A monthly file is not there, though the daily ones are."""
        return self._striking("absent_months", where, cadence=Cadence.MONTHLY, hides=True)

    def wrong_checksums(self, **where: Unpack[Where]) -> _Block:
        """A checksum is that of something else."""
        return self._striking("wrong_checksums", where, wrong_checksum=True)

    def no_checksums(self, **where: Unpack[Where]) -> _Block:
        """A file has no checksum."""
        return self._striking("no_checksums", where, has_checksum=False)

    def no_zips(self, **where: Unpack[Where]) -> _Block:
        """A file with a right checksum is no zip."""
        return self._striking("no_zips", where, spoils_zip=True)

    def headers(self, present: bool, **where: Unpack[Where]) -> _Block:
        """A file has a header, or none, whatever is usual at its place and time."""
        return self._striking("headers", where, header=present)

    def microseconds(self, **where: Unpack[Where]) -> _Block:
        """The times of a file are in microseconds."""
        return self._striking("microseconds", where, microseconds=True)

    def rewriting(self, **where: Unpack[Where]) -> _Block:
        """A file is rewritten later with the same rows."""
        return self._striking("rewriting", where)

    # Answers.

    def refusing(
        self,
        status: Literal[403, 429, 503] = 503,
        share: float = 1.0,
        *,
        retry_after_s: int | None = None,
    ) -> _Block:
        """Refuse that share of requests, with `Retry-After` if it is given."""
        chance = self.chance("refusing", share)
        return self._during(self._refusals, (chance, status, retry_after_s))

    def cut_bodies(self, share: float = 1.0) -> _Block:
        """Reset the connection in the middle of that share of bodies."""
        return self._during(self._cuts, self.chance("cut_bodies", share))

    def slow_bodies(self, bytes_per_s: float) -> _Block:
        """Send bodies at that pace."""
        if bytes_per_s <= 0:
            raise ValueError(f"a pace is a positive number of bytes a second, not {bytes_per_s}")
        return self._during(self._paces, bytes_per_s)

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Leave requests unanswered while the block lasts, then reset their connections."""
        over = trio.Event()
        with self._during(self._hangs, over):
            try:
                yield
            finally:
                over.set()

    # Called by the archive.

    def state(self, file: TwinFile, published_ms: int, now_ms: int) -> PublishedFile | None:
        """A file as it is now; None if it is not published."""
        faults = []
        changed_ms = {True: published_ms, False: published_ms}
        struck = [each for each in self._active.values() if each.strikes(file)]
        for fault in struck:
            until_ms, of_checksum = fault.until_ms(published_ms), fault.is_of_checksum
            if now_ms >= until_ms:
                changed_ms[of_checksum] = max(changed_ms[of_checksum], int(until_ms))
                continue
            if fault.hides:
                return None
            # Those that were there from the start have always been.
            if fault.began_ms > self._start_ms:
                changed_ms[of_checksum] = max(changed_ms[of_checksum], fault.began_ms)
            faults.append(fault)
        for ended_ms, fault in self._ended:
            if fault.strikes(file):
                until_ms, of_checksum = fault.until_ms(published_ms), fault.is_of_checksum
                changed_ms[of_checksum] = max(changed_ms[of_checksum], int(min(ended_ms, until_ms)))
        return PublishedFile(file, changed_ms[False], max(changed_ms.values()), tuple(faults))

    def count(self, state: PublishedFile) -> None:
        """Count the faults of a file that is answered."""
        self.injected.update(fault.kind for fault in state.faults)

    async def hang(self) -> bool:
        """Wait while the archive hangs; True if it did, as the connection must then be reset."""
        if not self._hangs:
            return False
        self.injected["hanging"] += 1
        while self._hangs:
            await next(iter(self._hangs.values())).wait()
        return True

    def refusal(self) -> ArchiveAnswer | None:
        """The answer of a refused request; None if it is not."""
        for chance, status, retry_after_s in self._refusals.values():
            if chance.strikes():
                body = error_answer(*_REFUSALS[status], "")
                later = () if retry_after_s is None else (("Retry-After", str(retry_after_s)),)
                return ArchiveAnswer(status=status, headers=(XML, *later), body=body)
        return None

    def spoil(self, answer: ArchiveAnswer) -> ArchiveAnswer:
        """Make a body slow, or cut it."""
        if self._paces:
            self.injected["slow_bodies"] += 1
            answer = evolve(answer, bytes_per_s=min(self._paces.values()))
        if answer.body and any(chance.strikes() for chance in self._cuts.values()):
            answer = evolve(answer, sent_bytes=len(answer.body) // 2)
        return answer

    def _distorting(
        self, kind: str, distort: Distortion, where: Where, cadence: Cadence | None = None
    ) -> _Block:
        return self._striking(kind, where, cadence=cadence, distort=distort, by_day=True)

    @contextmanager
    def _striking(self, kind: str, where: Where, **does: Any) -> Iterator[None]:
        """Keep a fault of files active while the block lasts."""
        number = self._next_block(kind)
        fault = ArchiveFault(kind=kind, number=number, where=where, began_ms=self._now_ms(), **does)
        with self._during(self._active, fault):
            try:
                yield
            finally:
                self._ended.append((self._now_ms(), fault))
