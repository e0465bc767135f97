"""A store in memory, for simulations: rows in dictionaries, no threads, faults on demand."""

from __future__ import annotations

import enum
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from itertools import groupby
from typing import TypeVar

import trio
from attrs import define, field

from klineagent.core.errors import (
    RowsRefused,
    StoreError,
    StoreMisconfigured,
    StoreOverloaded,
    StoreUnavailable,
)
from klineagent.core.interval import (
    BY_LENGTH,
    Run,
    on_grid,
    runs_begin_at,
    runs_of,
)
from klineagent.core.kline import Key, Kline, SeriesName
from klineagent.storage.memory.history import MemoryHistory
from klineagent.storage.reader import KlineRange, Reader
from klineagent.storage.store import AgentRow, Batch, SeriesRuns, SeriesSummary, Table

T = TypeVar("T")


class _Fault(enum.Enum):
    """Why a call fails before it does anything; the first active one here is raised."""

    OFFLINE = StoreUnavailable
    MISCONFIGURED = StoreMisconfigured
    OVERLOADED = StoreOverloaded

    def error(self) -> StoreError:
        kind: type[StoreError] = self.value
        return kind(f"the memory store is {self.name.lower()}, as requested")


@define(kw_only=True)
class StoreFaults:
    """The active faults of a store."""

    _active: list[_Fault] = field(factory=list, init=False)
    _delays_s: list[float] = field(factory=list, init=False)
    _refused: list[Callable[[Kline], bool]] = field(factory=list, init=False)
    _lost_answers: list[None] = field(factory=list, init=False)

    def offline(self) -> AbstractContextManager[None]:
        """Let every call raise `StoreUnavailable` and store nothing until the end of the block."""
        return while_in(self._active, _Fault.OFFLINE)

    def misconfigured(self) -> AbstractContextManager[None]:
        """Let every call raise `StoreMisconfigured`, storing nothing, until the block ends."""
        return while_in(self._active, _Fault.MISCONFIGURED)

    def overloaded(self) -> AbstractContextManager[None]:
        """Let every call raise `StoreOverloaded` and store nothing until the end of the block."""
        return while_in(self._active, _Fault.OVERLOADED)

    def slow(self, seconds: float) -> AbstractContextManager[None]:
        """Delay every call by `seconds` before it does anything, until the end of the block."""
        return while_in(self._delays_s, seconds)

    def refusing(self, predicate: Callable[[Kline], bool]) -> AbstractContextManager[None]:
        """Refuse inserts with a row that `predicate` matches, until the end of the block."""
        return while_in(self._refused, predicate)

    def losing_answers(self) -> AbstractContextManager[None]:
        """Let every call do its work, then raise `StoreUnavailable`, until the end of the block."""
        return while_in(self._lost_answers, None)

    async def begin(self) -> None:
        """Delay the beginning of a call, then raise an active fault.

        Raises:
            StoreError: a fault is active after the delay.
        """
        await trio.sleep(sum(self._delays_s))
        for fault in _Fault:
            if fault in self._active:
                raise fault.error()

    def examine(self, batch: Batch) -> None:
        """Check the rows of an insert.

        Raises:
            RowsRefused: one of the rows is to be refused.
        """
        for predicate in self._refused:
            if any(map(predicate, batch.klines)):
                raise RowsRefused("the memory store refuses a row, as requested")

    def answer(self) -> None:
        """Lose the answer of a call, if that fault is active.

        Raises:
            StoreUnavailable: the answer is lost.
        """
        if self._lost_answers:
            raise StoreUnavailable("the memory store's answer was lost, as requested")


@contextmanager
def while_in(active: list[T], fault: T) -> Iterator[None]:
    """Keep `fault` in `active` until the end of the block."""
    active.append(fault)
    try:
        yield
    finally:
        active.remove(fault)


TOKENS_KNOWN = 10_000
"""How many tokens a table remembers, as on a server (see `tables/schema.py`)."""

_State = tuple[Key, int, int]
"""One state of one candle: its key, event time and version."""


@define
class _Tokens:
    """The newest tokens of a table."""

    _known: set[str] = field(factory=set)
    _by_age: deque[str] = field(factory=deque)

    def note(self, token: str) -> bool:
        """Remember `token`; return whether it is new."""
        if token in self._known:
            return False
        if len(self._by_age) == TOKENS_KNOWN:
            self._known.remove(self._by_age.popleft())
        self._known.add(token)
        self._by_age.append(token)
        return True


@define(kw_only=True)
class MemoryStore(StoreFaults):
    """See `Store`: the highest version of each candle wins, and the last insert in a tie."""

    label: str = "memory:"
    snapshots: None = field(default=None, init=False)
    history: MemoryHistory = field(init=False)
    klines: dict[Key, Kline] = field(factory=dict)
    """The winning state of each candle by its key, closed or forming."""
    states: dict[_State, Kline] = field(factory=dict)
    """Table `kline_updates`: every state once."""
    agents: dict[tuple[str, int], AgentRow] = field(factory=dict)
    """The live row of each agent."""
    _tokens: dict[Table, _Tokens] = field(factory=lambda: {table: _Tokens() for table in Table})
    # An index of closed candles: scanning all rows for each query would take seconds.
    _closed_opens: dict[SeriesName, set[int]] = field(factory=dict)
    _forgotten: list[Callable[[Kline], bool]] = field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        self.history = MemoryHistory(self)

    @contextmanager
    def forgetting(self, predicate: Callable[[Kline], bool]) -> Iterator[None]:
        """Lose rows that `predicate` matches, acknowledged or not, until the end of the block."""
        for key in [key for key, kline in self.klines.items() if predicate(kline)]:
            del self.klines[key]
            self._closed_opens.get(key[:3], set()).discard(key[3])
        with while_in(self._forgotten, predicate):
            yield

    async def prepare(self) -> None:
        """See `Store`."""
        await self.begin()
        self.answer()

    async def insert(self, batch: Batch) -> None:
        """See `Store`."""
        await self.begin()
        self.examine(batch)
        if self._tokens[batch.table].note(batch.token):
            if batch.table is Table.KLINES:
                self._insert_klines(batch.klines)
            else:
                self.states.update(((k[:4], k.event_time, k.version), k) for k in batch.klines)
        self.answer()

    async def record_agent(self, row: AgentRow) -> None:
        """See `Store`."""
        await self.begin()
        stored = self.agents.get((row.ip, row.port))
        if stored is None or row.last_heartbeat >= stored.last_heartbeat:
            self.agents[row.ip, row.port] = row
        self.answer()

    async def summary(self) -> list[SeriesSummary]:
        """See `Store`."""
        await self.begin()

        def series(kline: Kline) -> tuple[str, str, int, str]:
            rank = BY_LENGTH.get(kline.interval, -1)
            return (kline.venue, kline.symbol, rank, kline.interval)

        summaries = []
        for (venue, symbol, _, interval), klines in groupby(
            sorted(self._closed(), key=series), series
        ):
            opens = [kline.open_time for kline in klines]
            summaries.append(
                SeriesSummary(venue, symbol, interval, len(opens), min(opens), max(opens))
            )
        self.answer()
        return summaries

    async def final_klines(
        self, venue: str, symbol: str, interval: str, *, newest: int | None = None
    ) -> list[Kline]:
        """See `Store`."""
        await self.begin()
        series = (k for k in self._closed() if k.key[:3] == (venue, symbol, interval))
        klines = sorted(series, key=lambda kline: kline.open_time)
        self.answer()
        return _last(klines, newest)

    @property
    def reader(self) -> Reader:
        """See `Store`."""
        return Reader(self.read_range)

    async def read_range(self, wanted: KlineRange, most: int) -> list[Kline]:
        """Return the first candles of a range, up to `most`; see `Reader`."""
        await self.begin()
        opens = self._closed_opens.get(wanted.series, ())
        within = [each for each in opens if wanted.first_ms <= each < wanted.end_ms]
        within.sort(reverse=wanted.is_newest_first)
        self.answer()
        keys = [(*wanted.series, open_ms) for open_ms in within]
        return [self.klines[key] for key in keys if key in self.klines][:most]

    async def final_kline(
        self, venue: str, symbol: str, interval: str, open_time: int
    ) -> Kline | None:
        """See `Store`."""
        await self.begin()
        kline = self.klines.get((venue, symbol, interval, open_time))
        self.answer()
        return kline if kline is not None and kline.is_closed else None

    async def highest_ranks(
        self, venue: str, symbol: str, interval: str, first_ms: int, end_ms: int
    ) -> Mapping[int, int]:
        """See `Store`."""
        await self.begin()
        ranks = {
            kline.open_time: kline.version
            for kline in self.klines.values()
            if kline[:3] == (venue, symbol, interval) and first_ms <= kline.open_time < end_ms
        }
        self.answer()
        return ranks

    async def coverage(
        self, venue: str, since: Mapping[str, int], symbols: Collection[str]
    ) -> list[SeriesRuns]:
        """See `Store`."""
        await self.begin()
        found = []
        for symbol in sorted(symbols):
            for interval in sorted(since, key=BY_LENGTH.__getitem__):
                first_ms = since[interval]
                stored = self._closed_opens.get((venue, symbol, interval), ())
                opens = sorted(on_grid(stored, interval))
                begin = bisect_left(opens, first_ms)
                runs, before = runs_of(opens[begin:], interval), None
                if begin > 0 and not runs_begin_at(runs, first_ms, interval):
                    before = opens[begin - 1]
                if runs or before is not None:
                    found.append(SeriesRuns(symbol, interval, before, runs))
        self.answer()
        return found

    async def stored_runs(
        self, venue: str, symbol: str, interval: str, first_ms: int, end_ms: int
    ) -> tuple[Run, ...]:
        """See `Store`."""
        await self.begin()
        stored = self._closed_opens.get((venue, symbol, interval), ())
        opens = (open_ms for open_ms in on_grid(stored, interval) if first_ms <= open_ms < end_ms)
        runs = runs_of(sorted(opens), interval)
        self.answer()
        return runs

    async def updates(
        self, venue: str, symbol: str, interval: str, *, newest: int | None = None
    ) -> list[Kline]:
        """See `Store`."""
        await self.begin()
        series = (k for k in self.states.values() if k[:3] == (venue, symbol, interval))
        states = sorted(series, key=lambda k: (k.open_time, k.event_time, k.version))
        self.answer()
        return _last(states, newest)

    def _insert_klines(self, klines: Iterable[Kline]) -> None:
        stored_klines = self.klines
        for kline in klines:
            if self._forgotten and any(forgets(kline) for forgets in self._forgotten):
                continue
            key = kline[:4]
            stored = stored_klines.get(key)
            if stored is not None and kline.version < stored.version:
                continue
            stored_klines[key] = kline
            if kline.is_closed:
                self._closed_opens.setdefault(kline[:3], set()).add(kline.open_time)
            elif stored is not None and stored.is_closed:
                self._closed_opens[kline[:3]].remove(kline.open_time)

    def _closed(self) -> Iterator[Kline]:
        return (kline for kline in self.klines.values() if kline.is_closed)


def _last(klines: list[Kline], newest: int | None) -> list[Kline]:
    return klines if newest is None else klines[max(0, len(klines) - newest) :]
