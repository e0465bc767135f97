"""The jobs of an agent, put together from its parts."""

from __future__ import annotations

from klineagent.exchange.network import Network
from klineagent.history.archive.place import PUBLIC
from klineagent.jobs.imported_days import ImportedDays
from klineagent.jobs.imports import ImportJobs
from klineagent.jobs.job_file import JobFile
from klineagent.jobs.jobs import Jobs
from klineagent.jobs.progress import ImportCounts
from klineagent.series.desired.state_file import StateFile
from klineagent.series.venues import Venues
from klineagent.storage.writing.writer import Writer


def jobs_of(
    *,
    venues: Venues,
    writer: Writer,
    network: Network,
    archive: str | None,
    is_simulated: bool,
    state: StateFile | None,
    days: ImportedDays,
) -> Jobs:
    """Return the jobs of an agent, none of which runs yet.

    Args:
        venues: those that it records.
        writer: the writer of its store.
        network: the way to the archive.
        archive: the archive's URL or folder; None for the exchange's own, if it is a real one.
        is_simulated: whether the exchange is simulated; then a real archive is another market's.
        state: the file that keeps the subscriptions; without one, jobs end with the process.
        days: learns what is imported.
    """
    counts = ImportCounts()
    imports = ImportJobs(
        venues=venues,
        writer=writer,
        network=network,
        archive=archive or ("" if is_simulated else PUBLIC),
        counts=counts,
        days=days,
    )

    def now_ms() -> int:
        return venues.main.context.time.now_ms()

    file = None if state is None else JobFile.beside(state, store=writer.store.label)
    return Jobs(file=file, carry_out=imports.carry_out, now_ms=now_ms, counts=counts)
