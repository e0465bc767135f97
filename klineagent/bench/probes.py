"""Probes inside the measured agent's process: store, event loop, log, memory."""

from __future__ import annotations

import math
import ssl
import time
from array import array
from collections import Counter
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, cast

import httpx2
import structlog
import trio
from attrs import define, field, frozen

from klineagent.core.interval import SECOND_MS
from klineagent.core.kline import Key
from klineagent.exchange.venues import Venue
from klineagent.storage.reader import Reader
from klineagent.storage.store import Batch, Store

LAG_GRID_S = 0.01
_TIME_ANSWERS = 5
_KILO = 1024


@frozen
class TwinClock:
    """The twin's clock, as an offset from the local one; both run at the same pace."""

    ahead_ms: float

    @classmethod
    async def read(cls, rest_url: str, venue: Venue) -> TwinClock:
        """Ask the twin for its time a few times and trust the quickest answer."""
        best = (math.inf, 0.0)
        async with httpx2.AsyncClient(
            base_url=rest_url, verify=ssl.create_default_context()
        ) as client:
            for _ in range(_TIME_ANSWERS):
                asked_ms = _local_ms()
                answer = await client.get(venue.time_path)
                took_ms = _local_ms() - asked_ms
                ahead_ms = answer.json()["serverTime"] - (asked_ms + took_ms / 2)
                best = min(best, (took_ms, ahead_ms))
        return cls(best[1])

    def now_ms(self) -> float:
        """The twin's time in milliseconds since the epoch."""
        return _local_ms() + self.ahead_ms


def _local_ms() -> float:
    return time.time() * SECOND_MS


@define(eq=False)
class WatchedStore:
    """A store whose inserts are measured; all other calls pass through."""

    _store: Store
    _clock: TwinClock
    inserts: int = field(default=0, init=False)
    rows: int = field(default=0, init=False)
    ages_ms: list[float] = field(factory=list, init=False)
    """For each insert of the window, the age of its newest row when it returned."""
    waited_ms: dict[Key, float] = field(factory=dict, init=False)
    """For each candle that closed in the window, the time from its close to its storage."""
    last_read_at: float | None = field(default=None, init=False)
    """When the last query for a reader ended, in seconds since the epoch."""
    _open_since_ms: float = field(default=math.inf, init=False)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    @property
    def reader(self) -> Reader:
        """See `Store`."""
        return cast("Reader", WatchedReader(self._store.reader, self._read))

    def _read(self) -> None:
        self.last_read_at = time.time()

    def open_window(self) -> None:
        """Start measuring inserts."""
        self._open_since_ms = self._clock.now_ms()
        self.ages_ms, self.waited_ms = [], {}

    def close_window(self) -> None:
        """Stop measuring inserts; the figures remain."""
        self._open_since_ms = math.inf

    async def insert(self, batch: Batch) -> None:
        """See `Store`."""
        await self._store.insert(batch)
        now_ms = self._clock.now_ms()
        self.inserts += 1
        self.rows += len(batch.klines)
        if now_ms < self._open_since_ms:
            return
        self.ages_ms.append(now_ms - max(kline.event_time for kline in batch.klines))
        for kline in batch.klines:
            if kline.is_closed and kline.close_time >= self._open_since_ms:
                self.waited_ms.setdefault(kline.key, now_ms - kline.close_time)

    async def found(self) -> int:
        """Count the candles of `waited_ms` that a query finds in the store."""
        return sum(
            [await self._found_on(venue) for venue in {venue for venue, _, _, _ in self.waited_ms}]
        )

    async def _found_on(self, venue: str) -> int:
        waited = [key[1:] for key in self.waited_ms if key[0] == venue]
        opens: dict[str, list[int]] = {}
        for _, interval, open_ms in waited:
            opens.setdefault(interval, []).append(open_ms)
        since = {interval: min(times) for interval, times in opens.items()}
        symbols = {symbol for symbol, _, _ in waited}
        runs = {
            (each.symbol, each.interval): each.runs
            for each in await self._store.coverage(venue, since, symbols)
        }
        return sum(
            any(first <= open_ms <= last for first, last in runs.get((symbol, interval), ()))
            for symbol, interval, open_ms in waited
        )


@define(eq=False)
class WatchedReader:
    """A reader that tells when a query has ended: one in its thread is waited for, if cancelled."""

    _reader: Reader
    _ended: Callable[[], None]

    async def read(self, *args: Any, **kwargs: Any) -> Any:
        """See `Reader`."""
        try:
            return await self._reader.read(*args, **kwargs)
        finally:
            self._ended()

    async def chunk(self, *args: Any) -> Any:
        """See `Reader`."""
        try:
            return await self._reader.chunk(*args)
        finally:
            self._ended()


@define(eq=False)
class LagProbe:
    """A task that is due at fixed times and notes how late it runs each time."""

    # Windows may last hours: a list of floats would outgrow the memory that is measured.
    late_ms: array[float] = field(factory=lambda: array("d"), init=False)

    async def run(self) -> NoReturn:
        """Run until cancelled; a long delay counts once for each due time it covers."""
        due = trio.current_time()
        while True:
            due += LAG_GRID_S
            await trio.sleep_until(due)
            self.late_ms.append((trio.current_time() - due) * SECOND_MS)


@define(eq=False)
class Tally:
    """A structlog processor that counts warnings and errors and drops every event."""

    warnings: Counter[str] = field(factory=Counter, init=False)

    def __call__(self, _logger: object, level: str, event: MutableMapping[str, Any]) -> NoReturn:
        """See structlog."""
        if level in {"warning", "error", "critical", "exception"}:
            self.warnings[str(event["event"])] += 1
        raise structlog.DropEvent


class Memory(NamedTuple):
    """Resident memory of a process in bytes."""

    now: int
    peak: int


def memory_of(process: int | str = "self") -> Memory:
    """Memory of a process; zeros where the system does not report it."""
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    except OSError:
        return Memory(0, 0)
    sizes = dict(line.split(":", 1) for line in status.splitlines())
    now, peak = (int(sizes[name].split()[0]) * _KILO for name in ("VmRSS", "VmHWM"))
    return Memory(now, peak)
