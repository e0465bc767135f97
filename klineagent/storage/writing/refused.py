"""Series with refused rows: which of their rows are still sent, and which refusals are logged."""

from __future__ import annotations

import enum
import math
from collections import Counter
from collections.abc import Collection, Iterable

import structlog
import trio
from attrs import define, field

from klineagent.core.kline import Kline
from klineagent.storage.store import Batch, Table

# A forming row of such a series is tried again after this time; a closed one at once, since it
# does not come twice.
TRY_FORMING_AFTER_S = 300.0
# The first series of a burst get a line each; the others share one in the next minute.
LINES_A_MINUTE = 10
MINUTE_S = 60.0

TableSeries = tuple[Table, str, str, str]
"""A series in a table."""

log = structlog.get_logger()


class RowKind(enum.Enum):
    """Kinds of rows, as metrics distinguish them."""

    CLOSED = "closed"
    FORMING = "forming"
    UPDATE = "update"


def table_series_of(row: Kline, table: Table) -> TableSeries:
    """Return the table and series of `row`."""
    return (table, row.venue, row.symbol, row.interval)


def row_kind_of(row: Kline, table: Table) -> RowKind:
    """Return the kind of `row`."""
    if table is Table.UPDATES:
        return RowKind.UPDATE
    return RowKind.CLOSED if row.is_closed else RowKind.FORMING


@define(eq=False)
class RefusedSeries:
    """The series with refused rows, and none accepted since."""

    counts: Counter[RowKind] = field(factory=Counter, init=False)
    """Rows refused so far, by kind."""
    withheld: int = field(default=0, init=False)
    """Forming rows not sent because of an earlier refusal, so far."""
    _try_at: dict[TableSeries, float] = field(factory=dict, init=False)
    """When the next forming row of a series may be sent."""
    _unlogged: int = field(default=0, init=False)
    _lines: int = field(default=0, init=False)
    _minute_began_at: float = field(default=-math.inf, init=False)

    def split(
        self, rows: tuple[Kline, ...], table: Table, suspected: Collection[TableSeries]
    ) -> tuple[tuple[Kline, ...], tuple[Kline, ...]]:
        """Split `rows` into those to send together and those to send apart; withhold the others.

        Closed rows and updates of `suspected` series are sent apart, not withheld: they do not
        come again.
        """
        if not self._try_at and not suspected:
            return rows, ()
        together, apart, now = [], [], trio.current_time()
        for row in rows:
            series = table_series_of(row, table)
            try_at = self._try_at.get(series)
            if try_at is None and series not in suspected:
                together.append(row)
            elif row.is_closed or (try_at is None and table is Table.UPDATES):
                apart.append(row)
            elif try_at is not None and try_at <= now:
                self._try_at[series] = now + TRY_FORMING_AFTER_S
                apart.append(row)
            else:
                self.withheld += 1
        return tuple(together), tuple(apart)

    def accepted(self, batch: Batch) -> None:
        """Note that the store acknowledged `batch`: its series count as good again."""
        if self._try_at:
            for row in batch.klines:
                self._try_at.pop(table_series_of(row, batch.table), None)

    def refused(self, rows: Iterable[tuple[Kline, str]], table: Table, *, kept: str) -> None:
        """Note that the store will never take `rows`, with reasons; `kept` says where they are."""
        now = trio.current_time()
        if now - self._minute_began_at >= MINUTE_S:
            self._minute_began_at, self._lines = now, 0
        for row, reason in rows:
            series = table_series_of(row, table)
            is_new = series not in self._try_at
            self._try_at[series] = now + TRY_FORMING_AFTER_S
            self.counts[row_kind_of(row, table)] += 1
            self._unlogged += 1
            if not self._lines or (is_new and self._lines < LINES_A_MINUTE):
                self._lines += 1
                log.error(
                    "row_refused", error=reason, row=tuple(row), rows=self._unlogged, kept=kept
                )
                self._unlogged = 0
