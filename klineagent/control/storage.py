"""The database, as the agent that writes to it knows it."""

from __future__ import annotations

from klineagent.control.answers_models import SpoolState, Storage
from klineagent.storage.spool.spool import Spool
from klineagent.storage.writing.writer import Writer


def storage_of(writer: Writer) -> Storage:
    """Whether rows are taken, and where those are that are not."""
    return Storage(
        database=writer.store.label,
        takes_rows=writer.delivery.is_up,
        rows_stored=writer.stored,
        rows_waiting=writer.rows_waiting,
        rows_refused=writer.refused,
        error=writer.delivery.error or None,
        spool=_spool_state(writer.spool, writer.spool_error) if writer.spool is not None else None,
    )


def _spool_state(spool: Spool, error: str) -> SpoolState:
    return SpoolState(
        where=spool.disk.label,
        rows=spool.rows,
        batches=spool.segments,
        bytes=spool.bytes,
        limit_bytes=spool.limit_bytes,
        error=error or None,
    )
