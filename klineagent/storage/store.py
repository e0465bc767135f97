"""The contract of every store, and the data that cross it."""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Protocol

from attrs import frozen

from klineagent.core.interval import Run
from klineagent.core.kline import Kline
from klineagent.storage.history import HistoryTables
from klineagent.storage.reader import Reader
from klineagent.storage.snapshots import Snapshots


class Table(enum.Enum):
    """The tables of klines, by their names in the database."""

    KLINES = "klines"
    """The newest state of each candle."""
    UPDATES = "kline_updates"
    """Every state of each candle, for as long as the table keeps it."""


@frozen
class Batch:
    """Klines frozen into one insert.

    A token always stands for the same rows in the same order: a server drops any insert under a
    token it knows, whatever its rows.
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
    """The stored closed candles of one series: their number, and times in milliseconds."""

    venue: str
    symbol: str
    interval: str
    closed: int
    first_open: int
    last_open: int


@frozen
class SeriesRuns:
    """The closed candles stored of one series from some open time on; times in milliseconds."""

    symbol: str
    interval: str
    before: int | None
    """The open time of the newest candle before that time; None if there is none, or if the first
    candle from that time on is stored, so that none was looked for."""
    runs: tuple[Run, ...]
    """The runs of consecutive candles from that time on, ascending."""


class Store(Protocol):
    """A database with tables `klines` and `agents` and view `klines_final`.

    Inserting the same batch any number of times, in any order with others, keeps the row with the
    highest version of each candle; in table `kline_updates`, which the first insert into it
    creates, it keeps every state once. When `insert` returns, its rows survive the end of this
    process. `insert`, `record_agent`, reads of one candle, and other reads may overlap; each of
    these four takes one call at a time. All methods raise `StoreError`s and no other errors.
    """

    @property
    def reader(self) -> Reader:
        """Reads ranges of `klines_final`; its calls may overlap with all others."""

    @property
    def snapshots(self) -> Snapshots | None:
        """Makes the tables readable for other processes; None unless they are in a folder."""

    @property
    def history(self) -> HistoryTables:
        """What was imported and corrected; its calls may overlap with all others."""

    @property
    def label(self) -> str:
        """The store's URL without its password, safe to print."""

    async def prepare(self) -> None:
        """Create database and tables if needed; `insert` does so as well."""

    async def insert(self, batch: Batch) -> None:
        """Store all rows of `batch` in its table."""

    async def record_agent(self, row: AgentRow) -> None:
        """Make `row` the only live row of its (ip, port) in `agents`."""

    async def summary(self) -> list[SeriesSummary]:
        """Summarize `klines_final`, a row per series, by venue, symbol and interval length."""

    async def final_klines(
        self, venue: str, symbol: str, interval: str, *, newest: int | None = None
    ) -> list[Kline]:
        """Read the rows of one series in `klines_final`, or the `newest` of them, by open time."""

    async def final_kline(
        self, venue: str, symbol: str, interval: str, open_time: int
    ) -> Kline | None:
        """Read one candle's row in `klines_final`; None if there is none. It takes milliseconds."""

    async def highest_ranks(
        self, venue: str, symbol: str, interval: str, first_ms: int, end_ms: int
    ) -> Mapping[int, int]:
        """Read the highest version of each candle, closed or not, in [`first_ms`, `end_ms`).

        Returns:
            Versions by open time; candles without a row are left out.
        """

    async def coverage(
        self, venue: str, since: Mapping[str, int], symbols: Collection[str]
    ) -> list[SeriesRuns]:
        """Find the runs of candles that `klines_final` holds of some series.

        Rows off the grid of their interval are ignored. The cost grows with the candles from
        `since` on, not with those before.

        Args:
            venue: the venue's name.
            since: by interval, the open time to begin at.
            symbols: the symbols to look at, each at all these intervals.

        Returns:
            Sorted by symbol and interval; series without closed candles are left out.
        """

    async def stored_runs(
        self, venue: str, symbol: str, interval: str, first_ms: int, end_ms: int
    ) -> tuple[Run, ...]:
        """Find the runs of one series' candles in `klines_final`, in [`first_ms`, `end_ms`).

        Rows off the grid are ignored.
        """

    async def updates(
        self, venue: str, symbol: str, interval: str, *, newest: int | None = None
    ) -> list[Kline]:
        """Read a series' states in `kline_updates`, or the `newest`, by open and event time."""
