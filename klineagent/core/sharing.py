"""Equal requests under way are one: who asks what another asks already shares its outcome."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

import trio
from attrs import define, field

from klineagent.core.errors import ReadError

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


@define(eq=False)
class _Flight(Generic[T]):
    """A request under way, for all who ask the same."""

    over: trio.Event = field(factory=trio.Event, init=False)
    answers: list[T] = field(factory=list, init=False)
    """The answer, once it has come."""
    error: ReadError | None = field(default=None, init=False)


@define(eq=False)
class Sharing(Generic[K, T]):
    """Requests under way, by what they ask for; each has one answer, or one error, for all."""

    _flights: dict[K, _Flight[T]] = field(factory=dict, init=False)

    def __len__(self) -> int:
        return len(self._flights)

    async def answer(self, asked: K, ask: Callable[[], Awaitable[T]]) -> T:
        """Return what `ask` returns, or what it returns to another who asked for the same.

        Raises:
            ReadError: `ask` did.
        """
        while (flight := self._flights.get(asked)) is not None:
            await flight.over.wait()
            if flight.error is not None:
                raise flight.error
            if flight.answers:
                return flight.answers[0]
            # Its client has left. Who comes first asks again.
        flight = self._flights[asked] = _Flight()
        try:
            answer = await ask()
            flight.answers.append(answer)
        except ReadError as error:
            flight.error = error
            raise
        finally:
            del self._flights[asked]
            flight.over.set()
        return answer
