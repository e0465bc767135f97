"""Files beside the state file, under its lock."""

from __future__ import annotations

from itertools import count
from pathlib import PurePath
from typing import ClassVar, Self

from attrs import frozen

from klineagent.core.errors import StateError
from klineagent.series.desired.state_file import StateFile
from klineagent.storage.spool.disk import TEMPORARY, Disk, Files, write_durably
from klineagent.storage.url import place

UNREADABLE = ".unreadable"
"""The suffix of a file that was set aside, after its own name."""


@frozen(kw_only=True)
class FileBeside:
    """The file `name` on `disk`, which must be locked by the caller."""

    SUFFIX: ClassVar[str]
    """The suffix of the file, after the name of the state file."""
    KIND: ClassVar[str]
    """What it holds, as messages say it."""
    disk: Disk
    name: str
    store: str
    """The place of the store to which the content belongs."""

    @classmethod
    def beside(cls, state: StateFile, *, store: str) -> Self:
        """Return the file beside `state`, under its lock, for the store of that label."""
        return cls(disk=state.disk, name=state.name + cls.SUFFIX, store=place(store))

    @property
    def label(self) -> str:
        """What it holds, and its path, as messages show them."""
        return f"{self.KIND} {PurePath(self.disk.label) / self.name}"

    def set_aside(self, files: Files) -> str:
        """Rename the file, replacing none that was set aside earlier; return its new name.

        Raises:
            OSError: it has its old name.
        """
        names = files.sizes("")
        numbered = (f"{self.name}{UNREADABLE}-{number}" for number in count(2))
        kept = self.name + UNREADABLE
        if kept in names:
            kept = next(name for name in numbered if name not in names)
        files.rename(self.name, kept)
        return kept

    async def write(self, content: bytes) -> None:
        """Write the file; on return it survives power loss.

        Raises:
            StateError: it may not survive; then what was saved before does.
        """

        def write(files: Files) -> None:
            try:
                files.unlink(self.name + TEMPORARY)  # left if an agent was killed while it wrote
                write_durably(files, "", self.name, content)
            except OSError as error:
                raise self.error(error) from error

        await self.disk.run(write)

    def error(self, error: OSError) -> StateError:
        """Return the error that says why the file cannot be read or written."""
        return StateError(f"{self.label}: {error.strerror or error}")
