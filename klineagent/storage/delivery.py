"""Getting one batch into the store: the same one, until there is an answer for every row."""

from __future__ import annotations

import random
import zlib
from collections.abc import Awaitable, Callable

import msgspec
import trio
from attrs import define, field

from klineagent.backoff import Backoff
from klineagent.errors import (
    RowsRefused,
    StoreAnswerUnknown,
    StoreError,
    StoreMisconfigured,
    StoreOverloaded,
)
from klineagent.kline import Kline
from klineagent.storage.store import Batch, Store, Table
from klineagent.trouble import Trouble

# This many rows refused and none accepted: it is the table that does not fit, not the rows.
REFUSALS_BEFORE_ALARM = 16
# So often an answer nobody here knows counts as a passing one; from then on it is an operator's.
UNKNOWN_BEFORE_ALARM = 10
OPERATOR_WAIT_S = 30.0
DRAIN_RETRY_S = 0.2

Acknowledged = Callable[[Batch, float], None]
"""Is told of rows that the store has, and how many seconds their insert took."""
SetAside = Callable[[Batch, str], Awaitable[None]]
"""Takes rows the store will never take, and why; when it returns they are kept, or were told of."""


@define
class Freezer:
    """Makes batches: gives rows a token that no other content ever has."""

    # Tokens must differ between runs of the agent, or the server drops the new run's rows.
    _run: str = field(factory=lambda: f"{random.getrandbits(48):012x}", init=False)
    _sequence: int = field(default=0, init=False)

    def freeze(self, rows: tuple[Kline, ...], table: Table) -> Batch:
        """`rows` as a batch that never changes again."""
        self._sequence += 1
        checksum = zlib.crc32(msgspec.msgpack.encode(rows))
        return Batch(f"{self._run}-{self._sequence:08d}-{checksum:08x}", rows, table)


@define(eq=False, kw_only=True)
class Delivery:
    """The way into the store, one batch at a time."""

    store: Store
    freezer: Freezer
    set_aside: SetAside
    acknowledged: Acknowledged
    stored: int = field(default=0, init=False)
    """Rows the store has acknowledged."""
    refused: int = field(default=0, init=False)
    """Rows the store will never take."""
    under_way: Batch | None = field(default=None, init=False)
    """What is being sent, and not answered for."""
    reached: trio.Event = field(factory=trio.Event, init=False)
    """Set while the store takes what it is sent; replaced by a new event when it does not."""
    error: str = field(default="", init=False)
    """Why it does not; empty while it does."""
    hurry: trio.Event = field(factory=trio.Event, init=False)
    """Set when there is a deadline: no long waits any more."""
    _accepting: bool = field(default=False, init=False)
    """Whether the last batch stored anything: one row alone does not tell bad from refused."""
    _unknown: int = field(default=0, init=False)
    """How often in a row the store gave an answer that nobody here knows."""

    def __attrs_post_init__(self) -> None:
        self.reached.set()

    @property
    def is_up(self) -> bool:
        """Whether the store takes what it is sent."""
        return self.reached.is_set()

    @property
    def rows_under_way(self) -> int:
        """How many rows the batch under way has."""
        return len(self.under_way.klines) if self.under_way else 0

    async def deliver(self, batch: Batch, *, rows_waiting: Callable[[], int]) -> None:
        """Send `batch`, the same one each time, until the store has answered for every row."""
        trouble = Trouble("store_unavailable", "store_back")
        backoffs: dict[type[StoreError], Backoff] = {}
        self.under_way = batch
        while True:
            try:
                await self._insert(batch)
            except StoreError as error:
                if self.reached.is_set():
                    self.reached = trio.Event()
                self.error = str(error)
                is_alarm = self._is_operators(error)
                trouble.lasts(error, alarm=is_alarm, rows_waiting=rows_waiting())
                kind = type(error)
                backoff = backoffs.setdefault(kind, Backoff(first_s=_first_wait_s(kind)))
                await self._pause(OPERATOR_WAIT_S if is_alarm else backoff.after())
            else:
                trouble.over()
                self._unknown = 0
                self.under_way = None
                self.error = ""
                self.reached.set()
                return

    def _is_operators(self, error: StoreError) -> bool:
        """Whether nothing but an operator can end this trouble."""
        self._unknown = self._unknown + 1 if isinstance(error, StoreAnswerUnknown) else 0
        return isinstance(error, StoreMisconfigured) or self._unknown >= UNKNOWN_BEFORE_ALARM

    async def _pause(self, seconds: float) -> None:
        """Wait before the next try; not for long in a drain, which has a deadline."""
        with trio.move_on_after(seconds):
            await self.hurry.wait()
            await trio.sleep(DRAIN_RETRY_S)

    async def _insert(self, batch: Batch) -> None:
        """Insert `batch`; rows that the store will never take are set aside, the rest goes in.

        Raises:
            StoreError: nothing is lost and the same batch must be sent again.
        """
        began_at = trio.current_time()
        try:
            await self.store.insert(batch)
        except RowsRefused as error:
            await self._insert_acceptable(batch, error)
        else:
            self._accepting = True
            self._note(batch, trio.current_time() - began_at)

    async def _insert_acceptable(self, batch: Batch, reason: RowsRefused) -> None:
        """Find the refused rows of `batch` by halving it; the halves are frozen batches, too."""
        accepted: list[tuple[Batch, float]] = []
        refused: list[tuple[Batch, RowsRefused]] = []
        parts = [(batch, reason)]
        while parts:
            part, reason = parts.pop()
            if len(part.klines) == 1:
                refused.append((part, reason))
                if not accepted and len(refused) == REFUSALS_BEFORE_ALARM:
                    break
                continue
            middle = len(part.klines) // 2
            for rows in (part.klines[middle:], part.klines[:middle]):
                half = self.freezer.freeze(rows, batch.table)
                began_at = trio.current_time()
                try:
                    await self.store.insert(half)
                except RowsRefused as half_refused:
                    parts.append((half, half_refused))
                else:
                    accepted.append((half, trio.current_time() - began_at))
        if not accepted and (len(batch.klines) > 1 or not self._accepting):
            raise StoreMisconfigured(f"{self.store.label} takes none of the rows: {reason}")
        self._accepting = bool(accepted)
        for part, why in refused:
            await self.set_aside(part, str(why))
        for half, took_s in accepted:
            self._note(half, took_s)
        self.refused += len(refused)

    def _note(self, batch: Batch, took_s: float) -> None:
        """The store has `batch`."""
        self.stored += len(batch.klines)
        self.acknowledged(batch, took_s)


def _first_wait_s(kind: type[StoreError]) -> float:
    return 5 if issubclass(kind, StoreOverloaded) else 0.2
