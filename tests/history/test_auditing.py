"""An audit finds whatever is not as the files had it, in every database."""

from __future__ import annotations

import pytest

from klineagent.core.interval import DAY_MS, Interval
from klineagent.history.archive.files import ArchivedSeries
from klineagent.history.auditing import Auditor, AuditSummary, DayFault
from klineagent.storage.digests import digest_sum
from klineagent.storage.opening import open_store
from klineagent.storage.reader import END_MS
from klineagent.storage.store import Batch, Store
from tests.history.test_importing import FIRST_MS, imported
from tests.places import ARCHIVE
from tests.storage.samples import sample

pytestmark = pytest.mark.skipif(not ARCHIVE.exists(), reason="there are no files of the archive")
SYMBOLS = ("AVAXUSDT", "DOTUSDT", "LTCUSDT")


async def audited(store: Store) -> AuditSummary:
    """Audit the three symbols."""
    series = [ArchivedSeries("usdm", each, Interval.M1) for each in SYMBOLS]
    return await Auditor(store=store, found=lambda _: None).audit(series, (0, END_MS))


async def test_one_wrong_bit_of_one_candle_is_found(store_url: str) -> None:
    """Nothing is found of what was imported, and then one day of one symbol."""
    async with open_store(store_url) as store:
        await imported(store, *SYMBOLS)
        before = await audited(store)
        assert (before.candles, before.days, before.findings) == (3 * 3 * 1440, 9, [])
        [kline, *_] = (await store.final_klines("usdm", "DOTUSDT", "1m"))[1440 + 7 :]
        # The smallest difference that a price can have.
        wrong = kline._replace(close=kline.close + 1e-15, version=kline.version + 2)
        assert wrong.close != kline.close
        await store.insert(Batch("wrong", (wrong,)))
        [finding] = (await audited(store)).findings
    assert str(finding.series) == "usdm:DOTUSDT 1m"
    assert (finding.day_ms, finding.fault) == (FIRST_MS + DAY_MS, DayFault.DIFFERENT)
    assert finding.path.endswith("DOTUSDT-1m-2026-02-02.zip")


async def test_a_candle_that_is_gone_is_found(store_url: str) -> None:
    """One that is forming again counts as gone."""
    async with open_store(store_url) as store:
        await imported(store, *SYMBOLS)
        [kline, *_] = await store.final_klines("usdm", "LTCUSDT", "1m")
        gone = kline._replace(is_closed=False, version=kline.version + 2)
        await store.insert(Batch("gone", (gone,)))
        [finding] = (await audited(store)).findings
    assert (finding.fault, finding.rows, finding.file_rows) == (DayFault.MISSING, 1439, 1440)


async def test_what_came_besides_is_no_finding(store_url: str) -> None:
    """Candles of other days, and of other symbols."""
    async with open_store(store_url) as store:
        await imported(store, *SYMBOLS)
        others = (sample(0), sample(5 * 1440, symbol="DOTUSDT"))
        await store.insert(Batch("others", others))
        assert (await audited(store)).findings == []


def test_values_that_change_places_change_the_digest() -> None:
    """Within a candle, and between two."""
    one, other = [1.0, 2.0, *[3.0] * 4, 5, 6.0, 7.0], [2.0, 1.0, *[3.0] * 4, 5, 6.0, 7.0]
    assert digest_sum([(0, one)]) != digest_sum([(0, other)])
    assert digest_sum([(0, one), (60_000, other)]) != digest_sum([(0, other), (60_000, one)])
    assert digest_sum([(0, one), (60_000, other)]) == digest_sum([(60_000, other), (0, one)])
