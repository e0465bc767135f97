"""Inserts batches into the store, retrying each unchanged until there is an answer.

When a batch is refused, either some of its rows are to blame or the table is. Known-good rows,
accepted before, show which: if the store accepts one of them again, the batch's rows are to blame.
Then the batch is bisected until the refused rows are isolated; a few inserts at a time, so that
other rows are not held up.
"""

from __future__ import annotations

import random
import zlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice

import msgspec
import trio
from attrs import define, field

from klineagent.core.errors import (
    RowsRefused,
    StoreAnswerUnknown,
    StoreError,
    StoreMisconfigured,
    StoreOverloaded,
)
from klineagent.core.kline import Key, Kline
from klineagent.core.retry import Backoff, Trouble
from klineagent.storage.store import Batch, Store, Table
from klineagent.storage.writing.refused import RefusedSeries, TableSeries, table_series_of
from klineagent.storage.writing.suspects import Suspects

# A known-good row is kept of so many series per table.
KNOWN_GOOD_ROWS = 16
# Without known-good rows, so many rows of the batch are tried one by one, and as many waiting ones.
PROBES = 32
# Bounds on one round of bisection, before other rows have their turn.
SIFT_INSERTS = 100
SIFT_WITHIN_S = 0.5
# Above this, rows refused together are set aside together: isolating each would take too long.
MOST_SUSPECTS = 20_000
# So many unknown answers in a row count as temporary; from then on an operator must act.
UNKNOWN_BEFORE_ALARM = 10
OPERATOR_WAIT_S = 30.0
DRAIN_RETRY_S = 0.2

Acknowledged = Callable[[Batch, float], None]
"""Called with a batch the store acknowledged, and the seconds its insert took."""
SetAside = Callable[[Batch, str], Awaitable[str]]
"""Called with closed candles the store will never take and why; returns where they are kept."""


@define
class Batcher:
    """Freezes rows into batches, each with a token of its own."""

    # Tokens must differ between runs of the agent, or the server would drop the new run's rows.
    _run: str = field(factory=lambda: f"{random.getrandbits(48):012x}", init=False)
    _sequence: int = field(default=0, init=False)

    def freeze(self, rows: tuple[Kline, ...], table: Table) -> Batch:
        """Freeze `rows` into a batch."""
        self._sequence += 1
        checksum = zlib.crc32(msgspec.msgpack.encode(rows))
        return Batch(f"{self._run}-{self._sequence:08d}-{checksum:08x}", rows, table)


@define(eq=False, kw_only=True)
class Inserter:
    """Inserts one batch at a time, and isolates the rows of refused ones."""

    store: Store
    batcher: Batcher
    set_aside: SetAside
    acknowledged: Acknowledged
    others: Callable[[], Sequence[Kline]]
    """Returns rows that wait for their turn."""
    rows_waiting: Callable[[], int]
    """Returns how many rows are in memory; for the log."""
    stored: int = field(default=0, init=False)
    """Rows the store has acknowledged."""
    refused_series: RefusedSeries = field(factory=RefusedSeries, init=False)
    under_way: Batch | None = field(default=None, init=False)
    """The batch being sent, without an answer yet."""
    suspects: Suspects = field(factory=Suspects, init=False)
    """Rows of refused batches, and of series with refused rows, still to be tried."""
    reached: trio.Event = field(factory=trio.Event, init=False)
    """Set while the store accepts batches; replaced by a new event when it does not."""
    error: str = field(default="", init=False)
    """Why the store accepts none; empty while it does."""
    hurry: trio.Event = field(factory=trio.Event, init=False)
    """Set during a drain, whose deadline leaves no time for long waits."""
    _refusing: list[tuple[Batch, str]] = field(factory=list, init=False)
    """Refused parts about to be set aside, or suspected again, with the reasons."""
    _known_good: OrderedDict[TableSeries, Kline] = field(factory=OrderedDict, init=False)
    """Rows the store accepted, of different series, the least trusted first."""
    _turn: int = field(default=0, init=False)
    """Advances with every probe, so that in time each row is tried."""
    _unknown: int = field(default=0, init=False)
    """Unknown answers of the store in a row."""
    _trouble: Trouble = field(
        factory=lambda: Trouble("store_unavailable", "store_back"), init=False
    )

    def __attrs_post_init__(self) -> None:
        self.reached.set()

    @property
    def is_up(self) -> bool:
        """Whether the store accepts batches."""
        return self.reached.is_set()

    @property
    def refused(self) -> int:
        """Rows the store will never take."""
        return self.refused_series.counts.total()

    @property
    def rows_under_way(self) -> int:
        """How many rows are held here alone, without an answer."""
        return sum(len(part.klines) for part in self.unanswered)

    def holds(self, key: Key) -> bool:
        """Return whether a closed state of that candle is held here alone, without an answer."""
        return any(
            row.is_closed and row[:4] == key
            for part in self.unanswered
            if part.table is Table.KLINES
            for row in part.klines
        )

    @property
    def unanswered(self) -> list[Batch]:
        """The batches neither stored nor set aside."""
        refusing = (part for part, _ in self._refusing)
        return [*filter(None, [self.under_way]), *self.suspects, *refusing]

    async def find(self, error: StoreError) -> None:
        """Retry until a store that was away at the start answers, even without rows to write."""
        self._fails(error)
        await self._until_answered(self.store.prepare)

    async def insert(self, batch: Batch) -> None:
        """Send `batch`, unchanged each time, until the store acknowledges or refuses it.

        A refused batch goes to the suspects.
        """
        self.under_way = batch
        await self._until_answered(partial(self._insert_or_halve, batch))
        self.under_way = None

    def split(self, rows: tuple[Kline, ...], table: Table) -> tuple[Kline, ...]:
        """Return the rows to send together; others become suspects, or are withheld."""
        together, apart = self.refused_series.split(rows, table, self.suspects.series)
        if apart:
            self.suspects.add(self.batcher.freeze(apart, table))
        return together

    async def sift(self) -> None:
        """Try some of the suspects, as many as there is time for."""
        await self._until_answered(self._sift)

    def give_up(self) -> list[Batch]:
        """Hand over all rows without an answer, in few batches, and hold them no longer."""
        # What was sent keeps its token, for its outcome is unknown: also the first suspect.
        sent = [self.under_way, *islice(self.suspects, 1)]
        others = [
            self.batcher.freeze(rows, table)
            for table in Table
            if (rows := _rows_of(islice(self.suspects, 1, None), table))
        ]
        self.under_way = None
        self.suspects.clear()
        return [*filter(None, sent), *others]

    async def _until_answered(self, attempt: Callable[[], Awaitable[None]]) -> None:
        backoffs: dict[type[StoreError], Backoff] = {}
        while True:
            try:
                await attempt()
            except StoreError as error:
                is_alarm = self._fails(error)
                kind = type(error)
                backoff = backoffs.setdefault(kind, Backoff(first_s=_first_wait_s(kind)))
                await self._pause(OPERATOR_WAIT_S if is_alarm else backoff.after())
            else:
                self._trouble.over()
                self._unknown = 0
                self.error = ""
                self.reached.set()
                return

    def _fails(self, error: StoreError) -> bool:
        """Note that the store failed; return whether an operator must act."""
        if self.reached.is_set():
            self.reached = trio.Event()
        self.error = str(error)
        is_alarm = self._is_operators(error)
        self._trouble.lasts(error, alarm=is_alarm, rows_waiting=self.rows_waiting())
        return is_alarm

    def _is_operators(self, error: StoreError) -> bool:
        """Return whether only an operator can resolve this error."""
        self._unknown = self._unknown + 1 if isinstance(error, StoreAnswerUnknown) else 0
        return isinstance(error, StoreMisconfigured) or self._unknown >= UNKNOWN_BEFORE_ALARM

    async def _pause(self, seconds: float) -> None:
        """Wait before the next attempt; not for long in a drain, which has a deadline."""
        with trio.move_on_after(seconds):
            await self.hurry.wait()
            await trio.sleep(DRAIN_RETRY_S)

    async def _insert_or_halve(self, batch: Batch) -> None:
        """Insert `batch`; if the store refuses it, make its halves suspects.

        Raises:
            StoreError: nothing is lost, and the same batch must be sent again.
        """
        began_at = trio.current_time()
        try:
            await self.store.insert(batch)
        except RowsRefused as error:
            await self._blame_rows(batch, str(error))
            if len(batch.klines) == 1:
                await self._refuse([(batch, str(error))])
            else:
                self._halve(batch)
        else:
            self._note(batch, trio.current_time() - began_at)

    async def _blame_rows(self, batch: Batch, reason: str) -> None:
        """Return if the store accepts other rows than those of the refused `batch`.

        Rows are sent a second time for that, which changes nothing.

        Raises:
            StoreMisconfigured: the store accepts no row, not even those it accepted before.
        """
        for row in self._probe_rows(batch):
            series = table_series_of(row, batch.table)
            try:
                await self.store.insert(self.batcher.freeze((row,), batch.table))
            except RowsRefused:
                if series in self._known_good:
                    self._known_good.move_to_end(series, last=False)
            else:
                self._remember([row], batch.table)
                return
        raise StoreMisconfigured(f"{self.store.label} accepts no rows: {reason}")

    def _probe_rows(self, batch: Batch) -> Iterator[Kline]:
        known = [row for series, row in self._known_good.items() if series[0] is batch.table]
        yield from reversed(known)
        self._turn += 1
        yield from _spread(batch.klines, PROBES, self._turn)
        yield from _spread(self.others(), PROBES, self._turn)

    async def _sift(self) -> None:
        refused = self._refusing
        enough_at, inserts = trio.current_time() + SIFT_WITHIN_S, 0
        try:
            while self.suspects and inserts < SIFT_INSERTS and trio.current_time() < enough_at:
                # If there are too many, the last come first: they are not bisected yet.
                if is_flood := self.suspects.rows > MOST_SUSPECTS:
                    self.suspects.put_last_first()
                part, began_at = self.suspects.first, trio.current_time()
                inserts += 1
                try:
                    await self.store.insert(part)
                except RowsRefused as error:
                    self.suspects.remove_first()
                    if len(part.klines) == 1 or is_flood:
                        refused.append((part, str(error)))
                    else:
                        self._halve(part)
                else:
                    self.suspects.remove_first()
                    self._note(part, trio.current_time() - began_at)
            if refused:
                await self._blame_rows(*refused[0])
                await self._refuse(refused)
                refused.clear()
        finally:
            # Still here if neither rows nor table were found to blame, or setting aside failed.
            for part, _ in refused:
                self.suspects.add(part)
            refused.clear()

    def _halve(self, part: Batch) -> None:
        """Make both halves of `part` suspects, sorted so that rows of a series stay together."""
        rows = sorted(part.klines, key=lambda row: table_series_of(row, part.table)[1:])
        middle = len(rows) // 2
        for half in (rows[:middle], rows[middle:]):
            self.suspects.add(self.batcher.freeze(tuple(half), part.table))

    async def _refuse(self, parts: Sequence[tuple[Batch, str]]) -> None:
        """Set aside closed candles of `parts`, which the store will never take; drop the others."""
        for table in Table:
            rows = [(row, why) for part, why in parts if part.table is table for row in part.klines]
            closed = [each for each in rows if each[0].is_closed]
            if closed:
                letter = self.batcher.freeze(tuple(row for row, _ in closed), table)
                kept = await self.set_aside(letter, _joined({why: None for _, why in closed}))
                self.refused_series.refused(closed, table, kept=kept)
            forming = [each for each in rows if not each[0].is_closed]
            self.refused_series.refused(forming, table, kept="nowhere: it was forming")

    def _note(self, batch: Batch, took_s: float) -> None:
        """Note that the store acknowledged `batch`."""
        self.stored += len(batch.klines)
        self._remember(_spread(batch.klines, KNOWN_GOOD_ROWS, 0), batch.table)
        self.refused_series.accepted(batch)
        self.acknowledged(batch, took_s)

    def _remember(self, rows: Iterable[Kline], table: Table) -> None:
        """Keep `rows` as known-good ones."""
        for row in rows:
            self._known_good[series := table_series_of(row, table)] = row
            self._known_good.move_to_end(series)
        while len(self._known_good) > KNOWN_GOOD_ROWS * len(Table):
            self._known_good.popitem(last=False)


def _spread(rows: Sequence[Kline], most: int, turn: int) -> Iterator[Kline]:
    """Pick up to `most` of `rows`, evenly spaced; another `turn` picks others."""
    step = max(1, -(-len(rows) // most))
    return islice(rows, turn % step, None, step)


def _rows_of(parts: Iterable[Batch], table: Table) -> tuple[Kline, ...]:
    return tuple(row for part in parts if part.table is table for row in part.klines)


def _joined(reasons: Iterable[str]) -> str:
    first, *others = reasons
    return f"{first}; and {len(others)} other reasons" if others else first


def _first_wait_s(kind: type[StoreError]) -> float:
    return 5 if issubclass(kind, StoreOverloaded) else 0.2
