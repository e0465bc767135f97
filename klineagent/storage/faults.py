"""What goes wrong with a store on demand: blocks that may overlap in any way."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
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
from klineagent.core.kline import Kline
from klineagent.storage.store import Batch

T = TypeVar("T")


class _Fault(enum.Enum):
    """Why a call fails before it has done anything; of several the first here is told."""

    OFFLINE = StoreUnavailable
    MISCONFIGURED = StoreMisconfigured
    OVERLOADED = StoreOverloaded

    def error(self) -> StoreError:
        kind: type[StoreError] = self.value
        return kind(f"the memory store is {self.name.lower()}, as it was told to be")


@define(kw_only=True)
class Faults:
    """The faults a store has at the moment."""

    _active: list[_Fault] = field(factory=list, init=False)
    _delays_s: list[float] = field(factory=list, init=False)
    _refused: list[Callable[[Kline], bool]] = field(factory=list, init=False)
    _lost_answers: list[None] = field(factory=list, init=False)

    def offline(self) -> AbstractContextManager[None]:
        """Until the end of the block every call raises `StoreUnavailable` and stores nothing."""
        return while_in(self._active, _Fault.OFFLINE)

    def misconfigured(self) -> AbstractContextManager[None]:
        """Until the end of the block every call raises `StoreMisconfigured` and stores nothing."""
        return while_in(self._active, _Fault.MISCONFIGURED)

    def overloaded(self) -> AbstractContextManager[None]:
        """Until the end of the block every call raises `StoreOverloaded` and stores nothing."""
        return while_in(self._active, _Fault.OVERLOADED)

    def slow(self, seconds: float) -> AbstractContextManager[None]:
        """Until the end of the block every call takes that much longer before it does anything."""
        return while_in(self._delays_s, seconds)

    def refusing(self, predicate: Callable[[Kline], bool]) -> AbstractContextManager[None]:
        """Until the end of the block an insert with a row `predicate` holds for is refused."""
        return while_in(self._refused, predicate)

    def losing_answers(self) -> AbstractContextManager[None]:
        """Until the end of the block every call does its work, then raises `StoreUnavailable`."""
        return while_in(self._lost_answers, None)

    async def meet(self) -> None:
        """Where a call begins; the faults count that are there once its delay is over.

        Raises:
            StoreError: as it fits.
        """
        await trio.sleep(sum(self._delays_s))
        for fault in _Fault:
            if fault in self._active:
                raise fault.error()

    def examine(self, batch: Batch) -> None:
        """Where the rows of an insert are looked at.

        Raises:
            RowsRefused: one of them is among those to be refused.
        """
        for predicate in self._refused:
            if any(map(predicate, batch.klines)):
                raise RowsRefused("the memory store refuses a row, as it was told to")

    def answer(self) -> None:
        """Where a call has done its work.

        Raises:
            StoreUnavailable: the answer is lost.
        """
        if self._lost_answers:
            raise StoreUnavailable("the memory store's answer was lost, as it was told to be")


@contextmanager
def while_in(active: list[T], fault: T) -> Iterator[None]:
    """Have `fault` among those that are `active` until the end of the block."""
    active.append(fault)
    try:
        yield
    finally:
        active.remove(fault)
