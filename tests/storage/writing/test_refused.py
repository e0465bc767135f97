"""Rows that are still sent of series with refused rows."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from klineagent.storage.store import Batch, Table
from klineagent.storage.writing.refused import TRY_FORMING_AFTER_S, RefusedSeries, table_series_of
from tests.klines import a_kline

CLOSED, FORMING = a_kline(0), a_kline(1, is_closed=False)
OTHER = a_kline(0)._replace(symbol="ETHUSDT")


@pytest.mark.logs("row_refused")
async def test_forming_rows_are_withheld_and_closed_ones_sent_apart(
    autojump_clock: MockClock,
) -> None:
    """Until the store takes one, or five minutes have passed; other series are not affected."""
    series = RefusedSeries()
    rows = (CLOSED, FORMING, OTHER)
    assert series.split(rows, Table.KLINES, ()) == (rows, ())
    series.refused([(CLOSED, "no")], Table.KLINES, kept="")
    assert series.split(rows, Table.KLINES, ()) == ((OTHER,), (CLOSED,))
    assert series.split(rows, Table.UPDATES, ()) == (rows, ())
    await trio.sleep(TRY_FORMING_AFTER_S)
    assert series.split(rows, Table.KLINES, ()) == ((OTHER,), (CLOSED, FORMING))
    assert series.split(rows, Table.KLINES, ()) == ((OTHER,), (CLOSED,))
    assert series.withheld == 2
    series.accepted(Batch("a", (CLOSED,)))
    assert series.split(rows, Table.KLINES, ()) == (rows, ())


async def test_no_update_of_a_suspected_series_is_given_up() -> None:
    """Unlike the newest state, it does not come again."""
    series, rows = RefusedSeries(), (CLOSED, FORMING)
    for table, apart in ((Table.KLINES, (CLOSED,)), (Table.UPDATES, rows)):
        assert series.split(rows, table, {table_series_of(CLOSED, table)}) == ((), apart)
