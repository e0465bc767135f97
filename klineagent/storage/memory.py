"""The twin of the databases: rows in a dictionary, no threads, faults on demand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby

import trio
from attrs import define, field

from klineagent.errors import StoreUnavailable
from klineagent.kline import Interval, Key, Kline
from klineagent.storage.store import AgentRow, Batch, SeriesSummary

_LENGTH_ORDER = {interval.value: rank for rank, interval in enumerate(Interval)}


@define(kw_only=True)
class MemoryStore:
    """See `Store`: of each candle the highest version wins, the last inserted in a tie.

    A token once seen is never forgotten, so memory grows by one short string per batch.
    """

    label: str = "memory:"
    klines: dict[Key, Kline] = field(factory=dict)
    """The winning state of each candle, by its key; open ones included."""
    agents: dict[tuple[str, int], AgentRow] = field(factory=dict)
    """The live row of each agent."""
    _tokens: set[str] = field(factory=set)
    _outages: int = 0

    @contextmanager
    def offline(self) -> Iterator[None]:
        """Until the end of the block every call raises `StoreUnavailable` and stores nothing."""
        self._outages += 1
        try:
            yield
        finally:
            self._outages -= 1

    async def prepare(self) -> None:
        """See `Store`."""
        await self._answer()

    async def insert(self, batch: Batch) -> None:
        """See `Store`."""
        await self._answer()
        if batch.token in self._tokens:
            return
        self._tokens.add(batch.token)
        for kline in batch.klines:
            stored = self.klines.get(kline.key)
            if stored is None or kline.version >= stored.version:
                self.klines[kline.key] = kline

    async def record_agent(self, row: AgentRow) -> None:
        """See `Store`."""
        await self._answer()
        stored = self.agents.get((row.ip, row.port))
        if stored is None or row.last_heartbeat >= stored.last_heartbeat:
            self.agents[row.ip, row.port] = row

    async def summary(self) -> list[SeriesSummary]:
        """See `Store`."""
        await self._answer()

        def series(kline: Kline) -> tuple[str, str, int, str]:
            rank = _LENGTH_ORDER.get(kline.interval, -1)
            return (kline.venue, kline.symbol, rank, kline.interval)

        summaries = []
        for (venue, symbol, _, interval), klines in groupby(
            sorted(self._closed(), key=series), series
        ):
            opens = [kline.open_time for kline in klines]
            summaries.append(
                SeriesSummary(venue, symbol, interval, len(opens), min(opens), max(opens))
            )
        return summaries

    async def final_klines(
        self, venue: str, symbol: str, interval: str, *, newest: int | None = None
    ) -> list[Kline]:
        """See `Store`."""
        await self._answer()
        series = (k for k in self._closed() if k.key[:3] == (venue, symbol, interval))
        klines = sorted(series, key=lambda kline: kline.open_time)
        return klines if newest is None else klines[max(0, len(klines) - newest) :]

    def _closed(self) -> Iterator[Kline]:
        return (kline for kline in self.klines.values() if kline.is_closed)

    async def _answer(self) -> None:
        await trio.lowlevel.checkpoint()
        if self._outages:
            raise StoreUnavailable("the memory store is offline, as it was told to be")
