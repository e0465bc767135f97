"""Copies series of a ClickHouse server into an engine of our own, which then exports them."""

from __future__ import annotations

from pathlib import Path

from klineagent.cli.sql.selection import SeriesSelection
from klineagent.core.kline import Kline
from klineagent.storage.clickhouse.embedded import open_embedded
from klineagent.storage.clickhouse.server import open_clickhouse
from klineagent.storage.reader import KlineRange
from klineagent.storage.store import Batch
from klineagent.storage.url import FolderLocation, ServerLocation

_BATCH_ROWS = 50_000


async def copy_series(server: ServerLocation, folder: Path, wanted: SeriesSelection) -> None:
    """Copy what is wanted from the server into the tables of an engine in `folder`.

    Rows pass through memory batch by batch.

    Raises:
        StartError: a series is not stored.
        StoreError: the server or the engine failed.
    """
    async with (
        open_clickhouse(server, may_create=False) as source,
        open_embedded(FolderLocation(folder=folder)) as target,
    ):
        await target.prepare()
        summary = await source.summary()
        rows: list[Kline] = []
        number = 0

        async def flush() -> None:
            nonlocal number
            number += 1
            await target.insert(Batch(str(number), tuple(rows)))
            rows.clear()

        for venue, symbol, interval in wanted.of(
            (each.venue, each.symbol, each.interval) for each in summary
        ):
            rest: KlineRange | None = KlineRange(
                venue=venue,
                symbol=symbol,
                interval=interval,
                first_ms=wanted.first_ms,
                end_ms=wanted.end_ms,
            )
            while rest is not None:
                read, rest = await source.reader.read(rest)
                rows += read
                if len(rows) >= _BATCH_ROWS:
                    await flush()
        await flush()
