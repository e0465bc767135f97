"""`/v1/snapshots`: lets other processes read an embedded database while it records."""

from __future__ import annotations

import structlog
import trio
from quart_trio import QuartTrio

from klineagent.api.models.contract import Done
from klineagent.api.models.snapshots import SnapshotTable, SnapshotTaken
from klineagent.api.models.timestamps import utc
from klineagent.api.openapi import operation
from klineagent.core.errors import NoSnapshots, SnapshotFailed, SnapshotGone, StoreError
from klineagent.core.interval import SECOND_MS
from klineagent.series.venues import Venues
from klineagent.storage.snapshots import KEPT_S, Frozen, Snapshots
from klineagent.storage.store import Store
from klineagent.storage.writing.writer import Writer

# A flush takes a tenth of a second; while the database is slow, a snapshot is taken of what it has.
FLUSH_WITHIN_S = 2

log = structlog.get_logger()


def add_snapshot_routes(app: QuartTrio, *, venues: Venues, writer: Writer) -> None:
    """Add `POST /v1/snapshots` and `DELETE /v1/snapshots/{name}`."""

    @app.post("/v1/snapshots")
    @operation(SnapshotTaken, tag="commands", raises=[NoSnapshots, SnapshotFailed])
    async def take_snapshot() -> SnapshotTaken:
        """Take a snapshot of the embedded database, which goes on recording.

        Waiting rows are stored first, if that takes no longer than 2 seconds. The snapshot consists
        of hard links, and holds the disk space of what is merged since until it is removed.
        """
        snapshots = _snapshots_of(writer.store)
        with trio.move_on_after(FLUSH_WITHIN_S):
            await writer.watermark.flush()
        stored_to = writer.watermark.stored_to
        as_of = None
        if stored_to is not None:
            ago_ms = int((trio.current_time() - stored_to) * SECOND_MS)
            as_of = utc(venues.main.context.time.now_ms() - ago_ms)
        try:
            frozen = await snapshots.take()
        except StoreError as error:
            raise SnapshotFailed(str(error)) from error
        log.info("snapshot_taken", snapshot=frozen.name, as_of=as_of)
        return _answer(frozen, as_of)

    @app.delete("/v1/snapshots/<name>")
    @operation(Done, tag="commands", raises=[NoSnapshots, SnapshotGone])
    async def remove_snapshot(name: str) -> Done:
        """Remove a snapshot."""
        if not await _snapshots_of(writer.store).remove(name):
            raise SnapshotGone(f"there is no snapshot {name}, or no longer")
        return Done(message=f"Removed snapshot {name}")


def _snapshots_of(store: Store) -> Snapshots:
    if store.snapshots is None:
        raise NoSnapshots(
            f"snapshots are of an embedded database; this agent records into {store.label}: read"
            " that directly"
        )
    return store.snapshots


def _answer(frozen: Frozen, as_of: str | None) -> SnapshotTaken:
    return SnapshotTaken(
        name=frozen.name,
        folder=str(frozen.folder),
        database=frozen.database,
        tables=[SnapshotTable(each.name, each.create, each.parts) for each in frozen.tables],
        as_of=as_of,
        kept_s=KEPT_S,
    )
