"""Batches for a spool, and helpers that read all it holds."""

from __future__ import annotations

from klineagent.core.errors import SpoolFull
from klineagent.storage.spool.disk import Files
from klineagent.storage.spool.folders import SpoolFolders
from klineagent.storage.spool.segment import Contents
from klineagent.storage.spool.spool import Spool
from klineagent.storage.store import Batch, Table
from tests.storage.samples import sample, update

NO_LIMIT = 2**40


def candles(number: int, rows: int = 3) -> Batch:
    """A batch whose token and rows identify it."""
    klines = tuple(sample(number * 1000 + row) for row in range(rows))
    return Batch(f"candles-{number}", klines)


def updates(number: int, rows: int = 3) -> Batch:
    """Make such a batch of updates."""
    klines = tuple(update(number, 1 + row) for row in range(rows))
    return Batch(f"updates-{number}", klines, Table.UPDATES)


async def filled(spool: Spool, rows: int = 3) -> list[Batch]:
    """Append candles until the spool is full; return those kept."""
    kept: list[Batch] = []
    try:
        while True:
            batch = candles(len(kept), rows)
            await spool.append(batch)
            kept.append(batch)
    except SpoolFull:
        return kept


async def drained(spool: Spool) -> list[Batch]:
    """Acknowledge all waiting batches one after another, and return them."""
    batches = []
    while (segment := await spool.oldest()) is not None:
        batches.append(segment.batch)
        await spool.acknowledge(segment)
    return batches


def dead_letters(files: Files) -> list[Contents]:
    """Read all dead letters."""
    folders = SpoolFolders()
    folders.refresh(files)
    return [folders.dead.read(files, name) for name in folders.dead.names]
