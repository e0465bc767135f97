"""The file that keeps what is wanted over restarts: small, readable, and whole at any moment."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
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
from klineagent.exchange.venues import Venue
from klineagent.series.desired.selection import Selection
from klineagent.series.desired.wire_format import (
    Excluded,
    Pattern,
    Reader,
    SubscriptionSet,
    Wanted,
    write,
)
from klineagent.storage.spool.disk import TEMPORARY, Disk, Files, write_durably

FORMAT = 1
LOCK = ".lock"
"""What a state's lock is called, after its own name."""
# How long somebody waits for the disk before he is told that nothing is sure.
SAVED_WITHIN_S = 1.0
# How long stopping may take for it, where the disk took nothing when it was last asked.
LAST_SAVE_WITHIN_S = 0.5

log = structlog.get_logger()


class Head(Struct, frozen=True, kw_only=True):
    """What a file of any format, also of those to come, says of itself."""

    format: int
    klineagent: str = "of an unknown version"
    """The version that wrote it."""

    def newer_than(self, known: int) -> str:
        """Why this version cannot read the file, if it is of a later format than `known`."""
        if self.format <= known:
            return ""
        return (
            f"klineagent {self.klineagent} wrote it (format {self.format}), and this is"
            f" {__version__}, which reads up to format {known}: run that version or a newer one"
        )


class _StateFileContent(Head, frozen=True, kw_only=True):
    """The whole file. What else is in it, a later version of the same format has added."""

    venue: str
    subscriptions: list[Wanted]
    exclude: list[Excluded]


def encode(selection: Selection, venue: Venue) -> bytes:
    """The content of the file."""
    written = write(selection, venue)
    saved = _StateFileContent(
        format=FORMAT,
        klineagent=__version__,
        venue=venue.name,
        subscriptions=written.subscriptions,
        exclude=written.exclude,
    )
    return msgspec.json.format(msgspec.json.encode(saved)) + b"\n"


def decode(content: bytes, venue: Venue) -> Selection:
    """What the content of a file says.

    Raises:
        ValueError: it is not what `encode` makes, or was made for another venue.
    """
    try:
        head = msgspec.json.decode(content, type=Head)
        if newer := head.newer_than(FORMAT):
            raise ValueError(newer)
        written = msgspec.json.decode(content)
        if unknown := _take_unknown(written):
            log.warning("state_keys_ignored", keys=unknown, klineagent=head.klineagent)
        saved = msgspec.convert(written, _StateFileContent)
        if saved.venue != venue.name:
            raise ValueError(f"it is for {saved.venue}, not for {venue.name}")
        return Reader(venue=venue).selection(SubscriptionSet(saved.subscriptions, saved.exclude))
    except (*UNREADABLE, InvalidRequest) as error:
        raise ValueError(f"it cannot be read: {error}") from error


def _take_unknown(written: Any) -> list[str]:
    """Take what this version does not know out of a file; returns its keys."""
    unknown = []
    if not isinstance(written, dict):
        return []
    parts: list[tuple[dict[str, Any], type[Struct]]] = [(written, _StateFileContent)]
    for name, kind in (("subscriptions", Wanted), ("exclude", Excluded)):
        if isinstance(entries := written.get(name), list):
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
    """File `name` on `disk`; see `open_state`. Its methods raise `StateError`."""

    disk: Disk
    name: str
    venue: Venue

    @property
    def label(self) -> str:
        """What a user calls it."""
        return str(PurePath(self.disk.label) / self.name)

    async def load(self) -> Selection:
        """What was saved last; nothing if nothing ever was."""

        def read(files: Files) -> Selection:
            with self._translated_errors():
                try:
                    content = files.read(self.name)
                except FileNotFoundError:
                    return Selection()
                return decode(content, self.venue)

        return await self.disk.run(read)

    async def save(self, selection: Selection) -> None:
        """Keep `selection`; on return it survives power loss."""
        content = encode(selection, self.venue)

        def save(files: Files) -> None:
            with self._translated_errors():
                # Of an agent that was killed while it wrote.
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
    """Sees that the newest selection it was given survives a restart, however often it must try.

    Without a file none ever does.
    """

    file: StateFile | None
    _newest: Selection = field(factory=Selection, init=False)
    _given: int = field(default=0, init=False)
    """How many it was given."""
    _saved: int = field(default=0, init=False)
    """How many had been given when the one was that is in the file."""
    _unsaved: trio.Event = field(factory=trio.Event, init=False)
    _tried: trio.Event = field(factory=trio.Event, init=False)
    """Set when the file was written, or could not be; replaced for the next time."""

    def save(self, selection: Selection) -> None:
        """Save `selection` in place of what was given before."""
        self._newest = selection
        self._given += 1
        self._unsaved.set()

    async def saved(self) -> bool:
        """Wait a little until what was given last is saved; tell whether it is."""
        given = self._given
        # Shielded: what it waits for is done, and who is told of it may rely on that.
        with trio.move_on_after(SAVED_WITHIN_S, shield=True):
            while self.file is not None and self._saved < given:
                await self._tried.wait()
        return self.file is not None and self._saved >= given

    async def run(self) -> None:
        """Save what is given, again and again; without a file there is nothing to do."""
        if self.file is None:
            return
        try:
            await self._run(self.file)
        finally:
            # The disk that was full may have room by now, and there is no next time.
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
async def open_state(disk: Disk, name: str, venue: Venue) -> AsyncIterator[StateFile]:
    """The state of one agent at a time, until the block ends.

    Raises:
        StateError: another agent has it, or there cannot be such a file.
    """
    state = StateFile(disk, name, venue)
    async with AsyncExitStack() as held:
        try:
            await held.enter_async_context(disk.hold())
        except SpoolError as error:
            cause = error.__cause__
            reason = cause.strerror if isinstance(cause, OSError) else "another agent uses it"
            raise StateError(f"state {state.label}: {reason}") from error
        yield state
