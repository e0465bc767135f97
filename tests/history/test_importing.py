"""Real files of the archive, imported into a database of each kind."""

from __future__ import annotations

import pytest

from klineagent.core.interval import DAY_MS, Interval
from klineagent.history.archive.place import FolderArchive
from klineagent.history.events import Event, FileTaken, ImportSummary, Planned
from klineagent.history.importing import Importer
from klineagent.history.survey import AskedSymbol, ImportRequest
from klineagent.storage.digests import DIGESTED, digest_sum
from klineagent.storage.history import FileState
from klineagent.storage.opening import open_store
from klineagent.storage.store import Batch, Store
from tests.archived import Row, archived, expected, fields_of
from tests.places import ARCHIVE
from tests.storage.samples import sample

FIRST_MS = 1_769_904_000_000
"""2026-02-01, as in samples: of that day and the two after it there are files of each symbol."""


def _first_day(symbol: str) -> list[Row]:
    end_ms = FIRST_MS + DAY_MS
    return [row for open_ms, row in archived(symbol).items() if FIRST_MS <= open_ms < end_ms]


def _digested(row: Row) -> tuple[int, list[float]]:
    return int(row["open_time"]), [
        int(row["count"]) if name == "trades" else float(row[name]) for name in DIGESTED
    ]


async def imported(
    store: Store, *symbols: str, first_ms: int | None = FIRST_MS, days: float = 3
) -> tuple[ImportSummary, list[Event]]:
    """Import these symbols' minutes into `store`; return the summary and all events."""
    events: list[Event] = []
    importer = Importer(
        archive=FolderArchive(ARCHIVE),
        store=store,
        exchanges={},
        request=ImportRequest(
            asked=[AskedSymbol("usdm", each) for each in symbols],
            intervals=[Interval.M1],
            first_ms=first_ms,
            end_ms=FIRST_MS + int(days * DAY_MS),
        ),
        report=events.append,
        now_ms=lambda: FIRST_MS + 10 * DAY_MS,
    )
    await importer.plan()
    return await importer.run(), events


async def test_every_field_of_real_files_is_stored_as_the_exchange_wrote_it(store_url: str) -> None:
    """In all databases: exact numbers, regular closes, a source, and no trade ids."""
    async with open_store(store_url) as store:
        summary, _ = await imported(store, "*USDT")
        assert summary.is_whole
        assert summary.archive_candles == 7 * 3 * 1440
        assert summary.states == {FileState.IMPORTED: 21}
        for symbol in ("AVAXUSDT", "DOTUSDT"):
            rows = archived(symbol)
            klines = await store.final_klines("usdm", symbol, "1m")
            assert len(klines) == 3 * 1440
            for kline in klines:
                assert fields_of(kline) == expected([rows[kline.open_time]], Interval.M1)
                assert kline.source == "archive"
                assert (kline.first_trade_id, kline.last_trade_id) == (-1, -1)


async def test_a_second_import_finds_nothing_to_do(real_store_url: str) -> None:
    """What was taken is known by its record, across processes."""
    async with open_store(real_store_url) as store:
        await imported(store, "DOTUSDT")
    async with open_store(real_store_url) as store:
        summary, events = await imported(store, "DOTUSDT")
    assert (summary.files, summary.archive_candles, summary.is_whole) == (0, 0, True)
    [planned] = [each for each in events if isinstance(each, Planned)]
    assert (planned.files, planned.files_done) == (0, 3)


async def test_all_databases_keep_the_same_digests(store_url: str) -> None:
    """A record has the rows and the digest of each day, the same from SQL and from Python."""
    async with open_store(store_url) as store:
        _, events = await imported(store, "DOTUSDT", days=1)
        [record] = await store.history.records("usdm", ["DOTUSDT"], ["1m"])
        [file] = await store.history.newest_files(5)
    [taken] = [each for each in events if isinstance(each, FileTaken)]
    assert record == taken.record
    assert (file.symbol, file.first_day, file.day_rows) == ("DOTUSDT", FIRST_MS, (1440,))
    assert record.day_rows == (1440,)
    assert record.day_digests == (digest_sum(map(_digested, _first_day("DOTUSDT"))),)
    assert record.sha256.startswith("80be6555c108b19c")


async def test_an_import_without_a_beginning_takes_all_there_is(store_url: str) -> None:
    """It begins with the first file, and names what no file has."""
    async with open_store(store_url) as store:
        summary, _ = await imported(store, "DOTUSDT", first_ms=None, days=4)
    assert summary.archive_candles == 3 * 1440
    [hole] = summary.holes
    assert (hole.first_ms, hole.candles) == (FIRST_MS + 3 * DAY_MS, 1440)


async def test_what_an_earlier_import_began_after_is_not_hidden(store_url: str) -> None:
    """Without a beginning, files from before those that were imported are looked for, too."""
    async with open_store(store_url) as store:
        await imported(store, "DOTUSDT", first_ms=FIRST_MS + 2 * DAY_MS, days=3)
        summary, _ = await imported(store, "DOTUSDT", first_ms=None, days=3)
    assert (summary.archive_candles, summary.is_whole) == (2 * 1440, True)


async def test_an_end_within_a_day_takes_that_day_whole(store_url: str) -> None:
    """Files have whole days: part of one would look like candles that do not exist."""
    async with open_store(store_url) as store:
        summary, _ = await imported(store, "DOTUSDT", days=1.5)
    assert (summary.archive_candles, summary.is_whole) == (2 * 1440, True)


@pytest.mark.parametrize("is_closed", [True, False])
async def test_what_is_stored_as_closed_stays_as_it_is(store_url: str, is_closed: bool) -> None:
    """A row of a stream or of REST is not replaced, though a file says something else.

    A forming state is, even one that an agent of old stored after the close.
    """
    kline = sample(0)._replace(
        symbol="DOTUSDT",
        open_time=FIRST_MS,
        close_time=FIRST_MS + 59_999,
        close=1.25,
        is_closed=is_closed,
        version=(FIRST_MS + 61_000) * 2 + is_closed,
        source="stream",
    )
    async with open_store(store_url) as store:
        await store.insert(Batch("before", (kline,)))
        summary, _ = await imported(store, "DOTUSDT")
        assert summary.archive_candles == 3 * 1440 - is_closed
        found = await store.final_kline("usdm", "DOTUSDT", "1m", FIRST_MS)
        assert len(await store.final_klines("usdm", "DOTUSDT", "1m")) == 3 * 1440
    assert found is not None
    assert (found == kline) is is_closed
    assert found.source == ("stream" if is_closed else "archive")
