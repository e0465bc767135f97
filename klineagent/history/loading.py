"""Takes units of files into any store: by the engine's own means, or row by row."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial

from klineagent.core.cooperate import apart
from klineagent.core.errors import StoreAnswerUnknown
from klineagent.core.interval import Interval, Run, opens_in
from klineagent.core.kline import Kline
from klineagent.history.rows import as_klines, read_rows
from klineagent.storage.history import FileState, ImportRecord, Judge, Loaded, Unit
from klineagent.storage.store import Batch, Store

Turn = Callable[[], AbstractAsyncContextManager[None]]
"""Returns the context in which rows are stored: it makes room for recording."""

BATCH_ROWS = 20_000
"""Of an insert to a server: larger ones are no faster, and hold the event loop longer."""


async def load(store: Store, unit: Unit, judge: Judge) -> list[Loaded]:
    """Store the candles of files that are not refused, and then their records; see `Loader`.

    Raises:
        StoreError: some or all of it may not have been stored.
    """
    if (loader := store.history.loader) is not None:
        return await loader.load(unit, judge)
    interval = Interval(unit.interval)
    records: list[ImportRecord] = []
    candles: list[list[Kline]] = []
    for number, file in enumerate(unit.files):
        size = len(file.gz)
        read = await apart(partial(read_rows, file, interval), size=size)
        record = judge(number, read.facts)
        rows = read.rows if record.state is not FileState.REFUSED else ()
        records.append(record)
        convert = partial(as_klines, rows, unit.venue, file.symbol, interval)
        candles.append(await apart(convert, size=size))
    new = [await not_stored(store, each) for each in candles]
    await insert_all(store, (kline for each in new for kline in each))
    for each in new:
        await _outrank(store, each)
    await store.history.record(records)
    return [Loaded(record, len(each)) for record, each in zip(records, new, strict=True)]


async def not_stored(store: Store, klines: Sequence[Kline]) -> list[Kline]:
    """Return those of one series' ascending `klines` that are not stored as closed."""
    if not klines:
        return []
    first, last = klines[0], klines[-1]
    runs = await store.stored_runs(*first[:3], first.open_time, last.open_time + 1)
    if not runs:
        return [*klines]
    stored = {*opens_of_runs(runs, first.interval)}
    return [kline for kline in klines if kline.open_time not in stored]


async def insert_all(store: Store, klines: Iterable[Kline]) -> None:
    """Insert `klines`, some thousand at a time."""
    name = secrets.token_hex(8)
    for number, some in enumerate(_batches(klines)):
        await store.insert(Batch(f"import-{name}-{number}", some))


async def _outrank(store: Store, inserted: Sequence[Kline]) -> None:
    """Insert again what a forming state hides: agents of old ranked one that came late above.

    Raises:
        StoreAnswerUnknown: the store still does not show all of them.
    """
    if not (hidden := await not_stored(store, inserted)):
        return
    first, last = hidden[0], hidden[-1]
    ranks = await store.highest_ranks(*first[:3], first.open_time, last.open_time + 1)
    await insert_all(
        store,
        (
            kline._replace(version=max(kline.version, ranks.get(kline.open_time, 0) + 1))
            for kline in hidden
        ),
    )
    if left := await not_stored(store, hidden):
        raise StoreAnswerUnknown(
            f"{store.label}: {len(left)} candles of {first.symbol} {first.interval} were inserted"
            " and are not shown; import again"
        )


def opens_of_runs(runs: Iterable[Run], interval: str) -> Iterator[int]:
    """Yield the open times of all candles in `runs`."""
    for first_ms, last_ms in runs:
        yield from opens_in(first_ms, last_ms + 1, interval)


def _batches(klines: Iterable[Kline]) -> Iterator[tuple[Kline, ...]]:
    batch: list[Kline] = []
    for kline in klines:
        batch.append(kline)
        if len(batch) == BATCH_ROWS:
            yield tuple(batch)
            batch = []
    if batch:
        yield tuple(batch)
