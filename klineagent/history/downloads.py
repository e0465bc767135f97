"""Downloads of the archive's files, each verified before it is used."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from attrs import frozen

from klineagent.core.cooperate import apart
from klineagent.history.archive.files import CHECKSUM, ArchiveFile
from klineagent.history.archive.place import Archive
from klineagent.history.archive.zips import FileDamaged, Member, member_of, sha256_in, sha256_of
from klineagent.history.judging import FileRead, refused
from klineagent.history.plan import rows_of
from klineagent.storage.history import ImportRecord

CHECKSUM_BYTES = 1024
# Candles take 50 to 130; a file that repeats each of them a few times can still be read.
ROW_BYTES = 1024
# A file may grow between its listing and its download.
MORE_BYTES = 1024**2


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
    content = await archive.content(file.path, most_bytes=2 * file.bytes + MORE_BYTES)
    if content is None:
        raise FileDamaged("it is in the listing, and is not there")
    checksum = await archive.content(file.path + CHECKSUM, most_bytes=CHECKSUM_BYTES)
    return await apart(partial(_verified, file, content, checksum), size=len(content))


def _verified(file: ArchiveFile, content: bytes, checksum: bytes | None) -> Download:
    sha256, note = sha256_of(content), ""
    if checksum is None:
        note = "it has no CHECKSUM"
    elif sha256_in(checksum) != sha256:
        raise FileDamaged("its SHA-256 is not that of its CHECKSUM")
    member = member_of(content, most_bytes=rows_of(file) * ROW_BYTES + MORE_BYTES)
    return Download(FileRead(file, sha256, note), member)
