"""Equal requests under way are one."""

from __future__ import annotations

import trio
from attrs import define, field
from trio.testing import MockClock

from klineagent.core.errors import NotReadable
from klineagent.core.sharing import Sharing


@define
class Asked:
    """What is asked takes a second, and fails while nothing is there."""

    there: bool = True
    times: int = 0
    under_way: Sharing[str, int] = field(factory=Sharing)

    async def __call__(self) -> int:
        self.times += 1
        await trio.sleep(1)
        if not self.there:
            raise NotReadable("nothing is there")
        return self.times

    async def outcome(self, into: list[int | str]) -> None:
        """Ask, and note the answer or the error."""
        try:
            into.append(await self.under_way.answer("it", self))
        except NotReadable as error:
            into.append(str(error))


async def test_all_who_ask_meanwhile_have_one_outcome(autojump_clock: MockClock) -> None:
    """Also where it is an error: nobody waits for another try. Who comes later asks again."""
    asked, outcomes = Asked(there=False), list[int | str]()
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(asked.outcome, outcomes)
    assert outcomes == ["nothing is there"] * 5
    assert (asked.times, trio.current_time()) == (1, 1)
    asked.there = True
    await asked.outcome(outcomes)
    assert outcomes[5:] == [2]
    assert len(asked.under_way) == 0


async def test_when_its_client_leaves_the_next_asks_again(autojump_clock: MockClock) -> None:
    """One of those who wait, for all the others."""
    asked, outcomes = Asked(), list[int | str]()
    async with trio.open_nursery() as nursery, trio.open_nursery() as leaving:
        leaving.start_soon(asked.outcome, outcomes)
        await trio.sleep(0.5)
        for _ in range(3):
            nursery.start_soon(asked.outcome, outcomes)
        await trio.sleep(0.1)
        leaving.cancel_scope.cancel()
    assert outcomes == [2, 2, 2]
