"""Candles that earlier runs have recorded, from before what a ledger covers since the start."""

from __future__ import annotations

from collections.abc import Sequence

from klineagent.core.errors import NotReadable, StoreError
from klineagent.core.interval import Interval, Run
from klineagent.core.kline import SeriesName
from klineagent.series.subscription import Subscription
from klineagent.storage.store import Store

# Nothing was traded on any venue before July 2017.
BEGINNING_OF_TIME_MS = 1_498_867_200_000
# A longer gap, a week of minutes, is none to fill: the series was not recorded for a while.
MOST_MISSING = 10_000


async def reveal(series: Subscription, name: SeriesName, store: Store) -> None:
    """Let the ledger of `series` reach back as far as the store does; what lacks is fetched.

    It is done once, and takes a query of all candles of the series.

    Raises:
        NotReadable: the store cannot be read, or the start has not looked into it yet.
    """
    if series.has_looked_back:
        return
    if series.audited_ms is None:
        raise NotReadable(f"{series.symbol} {series.interval} begins just now; try again")
    ledger = series.ledger
    try:
        runs = await store.stored_runs(*name, BEGINNING_OF_TIME_MS, ledger.first_ms)
    except StoreError as error:
        raise NotReadable(f"the database cannot be read: {error}") from error
    if not series.has_looked_back:
        series.look_back(*reach(runs, ledger.first_ms, ledger.interval))


def reach(
    runs: Sequence[Run], first_ms: int, interval: Interval
) -> tuple[int, list[tuple[int, int]]]:
    """Return how far stored `runs` reach back from `first_ms`, and where candles lack. Pure."""
    gaps: list[tuple[int, int]] = []
    for run_first_ms, run_last_ms in reversed(runs):
        end_ms = interval.next_open(run_last_ms)
        if interval.count(end_ms, first_ms) > MOST_MISSING:
            break
        if end_ms < first_ms:
            gaps.append((end_ms, first_ms))
        first_ms = run_first_ms
    return first_ms, gaps
