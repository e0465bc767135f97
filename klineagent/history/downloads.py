"""Downloads of the archive's files, each verified before it is used."""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen

from klineagent.history.archive.files import CHECKSUM, ArchiveFile
from klineagent.history.archive.place import Archive
from klineagent.history.archive.zips import FileDamaged, Member, member_of, sha256_of, told_sha256
from klineagent.history.judging import FileRead, refused
from klineagent.storage.history import ImportRecord


@frozen
class Download:
    """A file as it came, or the record that says why it is refused."""

    read: FileRead
    member: Member | None
    record: ImportRecord | None = None


async def download(archive: Archive, file: ArchiveFile, now_ms: Callable[[], int]) -> Download:
    """Download and verify a file; once more if it is damaged, for it may be replaced just now.

    Raises:
        ExchangeUnreachable: the archive does not answer.
    """
    try:
        return await _once(archive, file)
    except FileDamaged:
        pass
    try:
        return await _once(archive, file)
    except FileDamaged as error:
        return Download(FileRead(file, ""), None, refused(file, str(error), now_ms=now_ms()))


async def _once(archive: Archive, file: ArchiveFile) -> Download:
    content = await archive.content(file.path)
    if content is None:
        raise FileDamaged("it is in the listing, and is not there")
    checksum = await archive.content(file.path + CHECKSUM)
    sha256, note = sha256_of(content), ""
    if checksum is None:
        note = "it has no CHECKSUM"
    elif told_sha256(checksum) != sha256:
        raise FileDamaged("its SHA-256 is not that of its CHECKSUM")
    return Download(FileRead(file, sha256, note), member_of(content))
