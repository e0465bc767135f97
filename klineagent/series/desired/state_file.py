"""The state file: keeps each venue's selection over restarts.

It is small, readable, and replaced as a whole:

    {"format": 2, "klineagent": "0.3.0",
     "venues": {"usdm": {"subscriptions": [...], "exclude": [...]}, "spot": {...}}}

Format 1 holds one venue, with `venue`, `subscriptions` and `exclude` at the top.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import PurePath
from typing import Any, NoReturn

import msgspec
import structlog
import trio
from attrs import define, field, frozen
from msgspec import Struct

from klineagent import __version__
from klineagent.core.errors import (
    UNREADABLE,
    InvalidRequest,
    SpoolError,
    StateError,
    StateUnreadable,
)
from klineagent.core.retry import Backoff, Trouble
from klineagent.exchange.venues import VENUES
from klineagent.series.desired.selection import Selection
from klineagent.series.desired.wire_format import (
    Excluded,
    Pattern,
    SetReader,
    SubscriptionSet,
    Wanted,
    write,
)
from klineagent.storage.spool.disk import TEMPORARY, Disk, Files, write_durably

FORMAT = 2
_ONE_VENUE = 1
LOCK = ".lock"
"""The suffix of the lock file, after the name of the state file."""
# How long a command waits for the disk before it reports that its change is not saved.
SAVED_WITHIN_S = 1.0
# How long a stop may take for the last save if the one before failed.
LAST_SAVE_WITHIN_S = 0.5

log = structlog.get_logger()

Selections = Mapping[str, Selection]
"""Selections by the venue's name; a venue that was never recorded has none."""


class Head(Struct, frozen=True, kw_only=True):
    """The fields that a file of any format has, including later ones."""

    format: int
    klineagent: str = "of an unknown version"
    """The version that wrote the file."""

    def newer_than(self, known: int) -> str:
        """Return why this version cannot read the file; empty if its format is `known`."""
        if self.format <= known:
            return ""
        return (
            f"klineagent {self.klineagent} wrote it (format {self.format}), and this is"
            f" {__version__}, which reads up to format {known}: run that version or a newer one"
        )


class _VenueSet(Struct, frozen=True):
    """What one venue should record; a later version of the same format may add fields."""

    subscriptions: list[Wanted]
    exclude: list[Excluded]


class _StateFileContent(Head, frozen=True, kw_only=True):
    """The whole file; a later version of the same format may add fields."""

    venues: dict[str, _VenueSet]


def encode(selections: Selections) -> bytes:
    """Encode `selections` as the content of a state file."""
    written = {name: write(selection, VENUES[name]) for name, selection in selections.items()}
    saved = _StateFileContent(
        format=FORMAT,
        klineagent=__version__,
        venues={
            name: _VenueSet(each.subscriptions, each.exclude) for name, each in written.items()
        },
    )
    return msgspec.json.format(msgspec.json.encode(saved)) + b"\n"


def decode(content: bytes) -> Selections:
    """Decode the content of a state file.

    Raises:
        ValueError: it is no state file.
    """
    try:
        head = msgspec.json.decode(content, type=Head)
        if newer := head.newer_than(FORMAT):
            raise ValueError(newer)
        written, is_old = msgspec.json.decode(content), head.format == _ONE_VENUE
        if is_old:
            written = _nested(written)
        if unknown := _take_unknown(written):
            log.warning("state_keys_ignored", keys=unknown, klineagent=head.klineagent)
        saved = msgspec.convert(written, _StateFileContent)
        return {name: _selection(name, each, is_old=is_old) for name, each in saved.venues.items()}
    except (*UNREADABLE, InvalidRequest) as error:
        raise ValueError(f"it cannot be read: {error}") from error


def _nested(written: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a file of format 1 in the shape of today's."""
    head = {key: value for key, value in written.items() if key in {"format", "klineagent"}}
    rest = {key: value for key, value in written.items() if key not in {*head, "venue"}}
    return {**head, "venues": {str(written.get("venue")): rest}}


def _selection(name: str, saved: _VenueSet, *, is_old: bool) -> Selection:
    if (venue := VENUES.get(name)) is None:
        raise ValueError(f"it is for {name}, which is no venue")
    # In format 1 "all" included 1s.
    every = venue.intervals if is_old else venue.usual_intervals
    reader = SetReader(venue=venue, all_intervals=every)
    return reader.selection(SubscriptionSet(saved.subscriptions, saved.exclude))


def _take_unknown(written: dict[str, Any]) -> list[str]:
    """Remove the keys that this version does not know from a file's content; return them."""
    unknown = []
    venues = written.get("venues")
    parts: list[tuple[dict[str, Any], type[Struct]]] = [(written, _StateFileContent)]
    for each in venues.values() if isinstance(venues, dict) else ():
        if not isinstance(each, dict):
            continue
        parts.append((each, _VenueSet))
        for name, kind in (("subscriptions", Wanted), ("exclude", Excluded)):
            if isinstance(entries := each.get(name), list):
                parts += [(entry, kind) for entry in entries if isinstance(entry, dict)]
    parts += [(p["match"], Pattern) for p, _ in parts if isinstance(p.get("match"), dict)]
    for part, kind_of_part in parts:
        known = {each.encode_name for each in msgspec.structs.fields(kind_of_part)}
        unknown += sorted(part.keys() - known)
        for key in part.keys() - known:
            del part[key]
    return list(dict.fromkeys(unknown))


@frozen
class StateFile:
    """The state file `name` on `disk`; see `open_state`. Its methods raise `StateError`."""

    disk: Disk
    name: str

    @property
    def label(self) -> str:
        """The path that messages show."""
        return str(PurePath(self.disk.label) / self.name)

    async def load(self) -> Selections:
        """Load the selections that were saved last; none if there is no file."""

        def read(files: Files) -> Selections:
            with self._translated_errors():
                try:
                    content = files.read(self.name)
                except FileNotFoundError:
                    return {}
                return decode(content)

        return await self.disk.run(read)

    async def save(self, selections: Selections) -> None:
        """Save `selections`; on return they survive power loss."""
        content = encode(selections)

        def save(files: Files) -> None:
            with self._translated_errors():
                # A temporary file may be left from an agent that was killed while it wrote.
                files.unlink(self.name + TEMPORARY)
                write_durably(files, "", self.name, content)

        await self.disk.run(save)

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StateError(f"state {self.label}: {error.strerror or error}") from error
        except ValueError as error:
            raise StateUnreadable(f"state {self.label}: {error}") from error


@define(eq=False)
class StateSaver:
    """Saves each venue's newest selection to `file`, with retries; without a file nothing."""

    file: StateFile | None
    _newest: Selections = field(factory=dict)
    _given: int = field(default=0, init=False)
    """The number of selections given so far."""
    _saved: int = field(default=0, init=False)
    """The number of the selection that is in the file."""
    _unsaved: trio.Event = field(factory=trio.Event, init=False)
    _tried: trio.Event = field(factory=trio.Event, init=False)
    """Set after each attempt to write the file; replaced for the next one."""

    @property
    def venues(self) -> list[str]:
        """The names of the venues from which something is wanted."""
        return [name for name, each in self._newest.items() if each != Selection()]

    def selection_of(self, venue: str) -> Selection:
        """Return the venue's last selection; an empty one if it has none."""
        return self._newest.get(venue, Selection())

    def save(self, venue: str, selection: Selection) -> None:
        """Save `selection`, in place of the venue's last one, in the background."""
        self._newest = {**self._newest, venue: selection}
        self._given += 1
        self._unsaved.set()

    async def save_now(self, venue: str, selection: Selection) -> None:
        """Save `selection` as `save` does, at once.

        Raises:
            StateError: it may not survive.
        """
        self._newest = {**self._newest, venue: selection}
        if self.file is not None:
            await self.file.save(self._newest)

    async def saved(self) -> bool:
        """Wait up to `SAVED_WITHIN_S` until the last selection is saved; return whether it is."""
        given = self._given
        # Shielded: the change is made in any case, and the caller's answer must say if it is saved.
        with trio.move_on_after(SAVED_WITHIN_S, shield=True):
            while self.file is not None and self._saved < given:
                await self._tried.wait()
        return self.file is not None and self._saved >= given

    async def run(self) -> None:
        """Save selections as they are given; return at once if there is no file."""
        if self.file is None:
            return
        try:
            await self._run(self.file)
        finally:
            # A full disk may have room by now, and this is the last attempt.
            if self._saved < self._given:
                with trio.move_on_after(LAST_SAVE_WITHIN_S, shield=True), suppress(StateError):
                    await self.file.save(self._newest)

    async def _run(self, file: StateFile) -> NoReturn:
        trouble = Trouble("subscriptions_not_saved", "subscriptions_saved")
        backoff = Backoff(first_s=1)
        while True:
            await self._unsaved.wait()
            self._unsaved = trio.Event()
            given, wait_s = self._given, 0.0
            try:
                await file.save(self._newest)
            except StateError as error:
                trouble.lasts(error, alarm=True)
                self._unsaved.set()
                wait_s = backoff.after()
            else:
                trouble.over()
                backoff = Backoff(first_s=1)
                self._saved = given
            self._tried.set()
            self._tried = trio.Event()
            await trio.sleep(wait_s)


@asynccontextmanager
async def open_state(disk: Disk, name: str) -> AsyncIterator[StateFile]:
    """Open the state file `name` and lock it for the length of the block.

    Raises:
        StateError: another agent uses it, or there cannot be such a file.
    """
    state = StateFile(disk, name)
    async with AsyncExitStack() as held:
        try:
            await held.enter_async_context(disk.hold())
        except SpoolError as error:
            cause = error.__cause__
            reason = cause.strerror if isinstance(cause, OSError) else "another agent uses it"
            raise StateError(f"state {state.label}: {reason}") from error
        yield state
