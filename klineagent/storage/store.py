"""What every store promises."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from attrs import frozen

from klineagent.kline import Kline


@frozen
class Batch:
    """Klines frozen into one insert.

    The same token always means the same rows, in the same order: a server drops a second insert
    under a token it knows, whatever rows came with it.
    """

    token: str
    klines: tuple[Kline, ...]


@frozen(kw_only=True)
class AgentRow:
    """This agent's row in table `agents`."""

    ip: str
    port: int
    connection_count: int
    assigned_symbol_count: int
    last_heartbeat: datetime


@frozen
class SeriesSummary:
    """What is stored of one series: closed candles only, times in milliseconds."""

    venue: str
    symbol: str
    interval: str
    closed: int
    first_open: int
    last_open: int


class Store(Protocol):
    """A database holding tables `klines` and `agents` and view `klines_final`.

    `insert` of the same batch any number of times, in any order with others, leaves of each
    candle the row with the highest version. When it returns, the rows survive the death of this
    process. One call at a time for each of `insert`, `record_agent` and the reads; these three
    may overlap. All raise `StoreError`s and no others.
    """

    @property
    def label(self) -> str:
        """The store's URL, fit to be printed: without its password."""

    async def prepare(self) -> None:
        """See that database and tables are there; `insert` does so itself where it must."""

    async def insert(self, batch: Batch) -> None:
        """Store every row of `batch`."""

    async def record_agent(self, row: AgentRow) -> None:
        """Make `row` the one live row of its (ip, port) in `agents`."""

    async def summary(self) -> list[SeriesSummary]:
        """What `klines_final` holds, ordered by venue, symbol and interval length."""

    async def final_klines(
        self, venue: str, symbol: str, interval: str, *, newest: int | None = None
    ) -> list[Kline]:
        """The rows of `klines_final` of one series, or the `newest` of them, by open time."""
