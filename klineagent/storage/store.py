"""What every store promises."""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Protocol

from attrs import frozen

from klineagent.core.interval import Run
from klineagent.core.kline import Kline


class Table(enum.Enum):
    """Where klines are stored, by the name users read."""

    KLINES = "klines"
    """Of each candle the newest state."""
    UPDATES = "kline_updates"
    """Every state there was, for as long as the table keeps it."""


@frozen
class Batch:
    """Klines frozen into one insert.

    The same token always means the same rows, in the same order: a server drops a second insert
    under a token it knows, whatever rows came with it.
    """

    token: str
    klines: tuple[Kline, ...]
    table: Table = Table.KLINES


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


@frozen
class SeriesRuns:
    """Which closed candles are stored of one series from some open time on, in milliseconds."""

    symbol: str
    interval: str
    before: int | None
    """The newest one that opened before that time; None if there is none, and where the first
    candle of that time is stored, so that nobody has looked."""
    runs: tuple[Run, ...]
    """The unbroken runs from that time on, ascending."""


class Store(Protocol):
    """A database holding tables `klines` and `agents` and view `klines_final`.

    `insert` of the same batch any number of times, in any order with others, leaves of each
    candle the row with the highest version; in table `kline_updates`, which is made when rows for
    it first come, it leaves every state once. When it returns, the rows survive the death of this
    process. One call at a time for each of `insert`, `record_agent`, the two that look at one
    candle, and the other reads; these four may overlap. All raise `StoreError`s and no others.
    """

    @property
    def label(self) -> str:
        """The store's URL, fit to be printed: without its password."""

    async def prepare(self) -> None:
        """See that database and tables are there; `insert` does so itself where it must."""

    async def insert(self, batch: Batch) -> None:
        """Store every row of `batch` in the table it is for."""

    async def record_agent(self, row: AgentRow) -> None:
        """Make `row` the one live row of its (ip, port) in `agents`."""

    async def summary(self) -> list[SeriesSummary]:
        """What `klines_final` holds, ordered by venue, symbol and interval length."""

    async def final_klines(
        self, venue: str, symbol: str, interval: str, *, newest: int | None = None
    ) -> list[Kline]:
        """The rows of `klines_final` of one series, or the `newest` of them, by open time."""

    async def final_kline(
        self, venue: str, symbol: str, interval: str, open_time: int
    ) -> Kline | None:
        """The row of `klines_final` of one candle; None if it has none. It takes milliseconds."""

    async def highest_ranks(
        self, venue: str, symbol: str, interval: str, first_ms: int, end_ms: int
    ) -> Mapping[int, int]:
        """The highest version stored of each candle in [`first_ms`, `end_ms`), forming or closed.

        By open time; candles of which nothing is stored are left out.
        """

    async def coverage(
        self, venue: str, since: Mapping[str, int], symbols: Collection[str]
    ) -> list[SeriesRuns]:
        """Which candles `klines_final` holds of some series, and so where their gaps are.

        What stands off the grid of its interval is not looked at. It costs as much as candles are
        looked at, however many there are before them.

        Args:
            venue: its name.
            since: by the name of an interval, the open time to look from.
            symbols: of which symbols, at all these intervals.

        Returns:
            By symbol and interval; series without any closed candle are left out.
        """

    async def stored_runs(
        self, venue: str, symbol: str, interval: str, first_ms: int, end_ms: int
    ) -> tuple[Run, ...]:
        """The unbroken runs `klines_final` holds of one series in [`first_ms`, `end_ms`).

        Off the grid nothing is looked at.
        """

    async def updates(
        self, venue: str, symbol: str, interval: str, *, newest: int | None = None
    ) -> list[Kline]:
        """The states in `kline_updates` of one series, or the `newest`, by open and event time."""
