"""Every fault that the archive has had: the right candles, or a refusal that is named."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import date

import pytest
import trio
from attrs import define
from trio.testing import MockClock

from klineagent.core.errors import StoreUnavailable
from klineagent.core.interval import HOUR_MS
from klineagent.history.events import Waiting
from klineagent.storage.history import FileState
from klineagent.storage.memory.store import MemoryStore
from klineagent.storage.store import Batch
from tests.history.twin import BEGIN_MS, Past, open_past, sources, values
from tests.twin.archive.samples import NOON_MS

ALL = 40 * 24
DAY = [date(2026, 1, 10)]
Fault = Callable[[Past], AbstractContextManager[None]]


async def the_truth(past: Past) -> dict[int, tuple[object, ...]]:
    """What an import without faults brings: all candles, the newest from the exchange."""
    store = MemoryStore()
    summary = await past.imported(store)
    assert summary.is_whole
    assert len(store.klines) == ALL
    return values(store)


async def test_the_past_is_whole_up_to_the_present(autojump_clock: MockClock) -> None:
    """By months, the first day by its own file, and today by the exchange; nothing twice."""
    async with open_past() as past:
        store = MemoryStore()
        summary = await past.imported(store)
        assert summary.is_whole
        assert min(values(store)) == BEGIN_MS
        assert max(values(store)) == NOON_MS - HOUR_MS
        assert sources(store) == {"archive": ALL - 12, "rest": 12}
        assert (summary.files, summary.archive_candles, summary.rest_candles) == (3, ALL - 12, 12)
        assert not past.exchange.breaches


async def test_a_second_import_downloads_nothing_and_asks_for_nothing(
    autojump_clock: MockClock,
) -> None:
    """It costs the listings, and what has closed since."""
    async with open_past() as past:
        store = MemoryStore()
        await past.imported(store)
        await trio.sleep(2 * 3600)
        summary = await past.imported(store)
    assert (summary.files, summary.archive_candles, summary.rest_candles) == (0, 0, 2)


@pytest.mark.parametrize(
    ("fault", "from_rest"),
    [
        (lambda past: past.archive.faults.lacking_days(days=DAY), 12),
        (lambda past: past.archive.faults.early_ends(), 12),
        (lambda past: past.archive.faults.absent_months(), 12),
        (lambda past: past.archive.faults.repeated_rows(days=DAY), 12),
        (lambda past: past.archive.faults.unsorted_rows(days=DAY), 12),
        (lambda past: past.archive.faults.cut_closes(), 12),
        (lambda past: past.archive.faults.no_checksums(), 12),
        (lambda past: past.archive.faults.headers(present=False), 12),
        (lambda past: past.archive.faults.microseconds(), 12),
        (lambda past: past.archive.faults.wrong_checksums(interval="1h"), ALL),
        (lambda past: past.archive.faults.no_zips(interval="1h"), ALL),
        (lambda past: past.archive.faults.unpublished(), ALL),
    ],
    ids=[
        *("a day lacks in a month", "a month ends early", "a month is absent", "rows three times"),
        *("rows in no order", "cut closes", "no checksum", "no header", "microseconds"),
        *("wrong checksums", "no zips", "no files at all"),
    ],
)
async def test_a_fault_that_is_seen_costs_no_candle(
    fault: Fault, from_rest: int, autojump_clock: MockClock
) -> None:
    """All candles are there and right: from another file, or from the exchange."""
    async with open_past() as past:
        truth = await the_truth(past)
        store = MemoryStore()
        with fault(past):
            summary = await past.imported(store, first_ms=BEGIN_MS)
        # A refused file of the first day may have candles of a former listing.
        assert all(each.is_proven or each.end_ms <= BEGIN_MS for each in summary.holes)
        assert values(store) == truth
        assert sources(store).get("rest", 0) == from_rest
        assert not past.exchange.breaches


@pytest.mark.parametrize("kind", ["unequal_rows", "impossible_rows"])
async def test_a_file_that_contradicts_itself_is_refused_as_a_whole(
    kind: str, autojump_clock: MockClock
) -> None:
    """So are the month and the day; other days come by their files, that one by the exchange."""
    async with open_past() as past:
        truth = await the_truth(past)
        store = MemoryStore()
        with getattr(past.archive.faults, kind)(days=DAY):
            summary = await past.imported(store)
        assert values(store) == truth
        assert sources(store)["rest"] == 12 + 24
        assert [each.path[-14:-4] for each in summary.refused] == ["1h-2026-01", "2026-01-10"]
        assert all(each.reason for each in summary.refused)


async def test_half_a_day_is_taken_and_the_exchange_has_the_rest(autojump_clock: MockClock) -> None:
    """Also if its month is not there."""
    async with open_past() as past:
        truth = await the_truth(past)
        store = MemoryStore()
        with past.archive.faults.absent_months(), past.archive.faults.half_days(days=DAY):
            summary = await past.imported(store)
        assert summary.is_whole
        assert summary.states[FileState.SHORT] >= 1
        assert values(store) == truth
        assert 12 < sources(store)["rest"] < 12 + 24


async def test_rows_off_the_grid_are_not_stored(autojump_clock: MockClock) -> None:
    """They are counted; the exchange has the candles that belong there."""
    async with open_past() as past:
        truth = await the_truth(past)
        store = MemoryStore()
        with past.archive.faults.off_grid(days=DAY):
            await past.imported(store)
        assert values(store) == truth
        [month] = [each for each in store.history.imports.values() if "2026-01.zip" in each.path]
        assert month.off_grid > 0


async def test_what_the_archive_says_wrong_is_stored_and_can_be_found(
    autojump_clock: MockClock,
) -> None:
    """Lies that no row shows are for the audit: the digest of their day is in the record."""
    async with open_past() as past:
        truth = await the_truth(past)
        store = MemoryStore()
        with past.archive.faults.wrong_volumes(days=DAY):
            summary = await past.imported(store)
        assert summary.is_whole
        differing = [open_ms for open_ms, each in values(store).items() if each != truth[open_ms]]
        assert 0 < len(differing) <= 5


async def test_an_archive_that_is_busy_is_waited_for(autojump_clock: MockClock) -> None:
    """Half of all requests are refused, bodies are cut and slow: all comes in the end."""
    async with open_past() as past:
        truth = await the_truth(past)
        store = MemoryStore()
        faults = past.archive.faults
        with faults.refusing(503, 0.5), faults.cut_bodies(0.3), faults.slow_bodies(200_000):
            summary = await past.imported(store)
        assert summary.is_whole
        assert values(store) == truth


@define(kw_only=True)
class RestlessStore(MemoryStore):
    """A store that is away when something is inserted for the first time."""

    was_away: bool = False

    async def insert(self, batch: Batch) -> None:
        """See `Store`."""
        if not self.was_away:
            self.was_away = True
            raise StoreUnavailable("away for a moment")
        await MemoryStore.insert(self, batch)


async def test_a_database_that_is_away_while_the_exchange_answers_is_waited_for(
    autojump_clock: MockClock,
) -> None:
    """Answers are kept until they are stored."""
    async with open_past() as past:
        store = RestlessStore()
        with past.archive.faults.unpublished():
            summary = await past.imported(store, first_ms=BEGIN_MS)
        assert summary.is_whole
        assert len(store.klines) == ALL
        assert [bool(each.reason) for each in past.events if isinstance(each, Waiting)] == [
            *(True, False),
        ]


async def test_listings_of_many_pages_are_read_to_the_end(autojump_clock: MockClock) -> None:
    """Ten keys a page."""
    async with open_past() as past:
        truth = await the_truth(past)
        past.archive.most_entries = 10
        store = MemoryStore()
        with past.archive.faults.absent_months():
            await past.imported(store)
        assert values(store) == truth
