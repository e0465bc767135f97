"""The exchange's time, as far as it has told: the clock by which candles close."""

from __future__ import annotations

import heapq
from itertools import count

import trio
from attrs import define, field

from klineagent.core.interval import SECOND_MS
from klineagent.exchange.clock.pace import Pace
from klineagent.exchange.clock.reckoning import Reckoning, Verdict


@define(eq=False)
class _Waiter:
    """Someone who waits for a moment."""

    reached: trio.Event = field(factory=trio.Event, init=False)
    alarm: trio.CancelScope = field(factory=trio.CancelScope, init=False)
    """Ends the wait should nobody say that the moment is reached; set for who is first in line."""
    has_left: bool = field(default=False, init=False)


@define(eq=False)
class ExchangeTime:
    """The newest time of the exchange that is believed, plus what has passed here since.

    What it shows is late by the way of the message, and never early while the local clock does not
    run fast. So what it calls closed is closed; neither a wrong local clock nor an exchange that
    runs faster than time (a simulated one) confuses it. What is believed is `Reckoning`'s matter.
    """

    is_simulated: bool = False
    """See `Pace`."""
    reckoning: Reckoning = field(init=False)
    _known: trio.Event = field(factory=trio.Event, init=False)
    _doubt: trio.Event = field(factory=trio.Event, init=False)
    """Set when the clock may need confirmation sooner than it seemed."""
    # Who waits for which moment, the earliest first; those who gave up stay until they are first,
    # or outnumber the others. Only the first has an alarm. So a clock that jumps is one alarm to
    # set again, whoever waits: Trio's does not run while the machine is suspended, and the
    # exchange's goes on.
    _waiting: list[tuple[int, int, _Waiter]] = field(factory=list, init=False)
    _order: count[int] = field(factory=count, init=False)
    _left: int = field(default=0, init=False)
    """How many of them gave up."""

    def __attrs_post_init__(self) -> None:
        self.reckoning = Reckoning(trio.current_time(), Pace(self.is_simulated))

    def advance(self, time_ms: int) -> None:
        """An event says that it is `time_ms`."""
        self.reckoning.advance(time_ms, trio.current_time())
        self._has_changed()

    def answered(self, time_ms: int, sent_at: float) -> Verdict:
        """The exchange says that it is `time_ms`, asked for at `sent_at` by Trio's clock."""
        setbacks = self.reckoning.setbacks
        verdict = self.reckoning.answer(time_ms, sent_at, trio.current_time())
        self._has_changed(is_set_back=self.reckoning.setbacks > setbacks)
        return verdict

    def confirm(self, time_ms: int) -> None:
        """It is `time_ms`, and nobody need be asked."""
        setbacks = self.reckoning.setbacks
        self.reckoning.confirm(time_ms, trio.current_time())
        self._has_changed(is_set_back=self.reckoning.setbacks > setbacks)

    def _has_changed(self, *, is_set_back: bool = False) -> None:
        if self.is_known:
            self._known.set()
        if not self.reckoning.trusted_s(trio.current_time()):
            self._doubt.set()
        if is_set_back:
            for _, _, waiter in self._waiting:
                waiter.reached.set()
            self._waiting, self._left = [], 0
        self._look()

    def now_ms(self) -> int:
        """What time it is there; counted from our start as long as nothing is known.

        So minutes pass also while nobody knows which.
        """
        return self.reckoning.now_ms(trio.current_time())

    def allows(self, time_ms: int) -> bool:
        """Whether it can be `time_ms` by now, give or take what clocks may differ.

        Anything is allowed as long as nothing is known.
        """
        return self.reckoning.allows(time_ms, trio.current_time())

    @property
    def is_known(self) -> bool:
        """See `Reckoning`."""
        return self.reckoning.is_known

    def silent_s(self) -> float:
        """How long ago a time was last believed."""
        return self.reckoning.silent_s(trio.current_time())

    async def known(self) -> None:
        """Wait until the exchange's time is known."""
        await self._known.wait()

    async def doubted(self) -> None:
        """Wait until somebody should ask the exchange for its time."""
        while (trusted_s := self.reckoning.trusted_s(trio.current_time())) > 0:
            self._doubt = trio.Event()
            with trio.move_on_after(trusted_s):
                await self._doubt.wait()

    async def until(self, time_ms: int) -> bool:
        """Wait until the exchange's clock shows `time_ms`; tell whether it does.

        It does not where the clock was set back meanwhile: whoever waits should look again at what
        he waits for.
        """
        setbacks = self.reckoning.setbacks
        while self.now_ms() < time_ms:  # it goes back where an event was long on its way
            if self.reckoning.setbacks != setbacks:
                return False
            waiter = _Waiter()
            heapq.heappush(self._waiting, (time_ms, next(self._order), waiter))
            if self._is_first(waiter):
                self._look()
            try:
                with waiter.alarm:
                    await waiter.reached.wait()
            finally:
                if not waiter.reached.is_set():
                    self._leave(waiter)
        return True

    def _leave(self, waiter: _Waiter) -> None:
        waiter.has_left = True
        self._left += 1
        if 2 * self._left > len(self._waiting):
            self._waiting = [each for each in self._waiting if not each[2].has_left]
            heapq.heapify(self._waiting)
            self._left = 0
            self._look()
        elif self._is_first(waiter):
            self._look()

    def _is_first(self, waiter: _Waiter) -> bool:
        return bool(self._waiting) and self._waiting[0][2] is waiter

    def _look(self) -> None:
        """Tell all whose moment is reached, and set the alarm of who is then the first."""
        now_ms = self.now_ms()
        while self._waiting:
            time_ms, _, first = self._waiting[0]
            if time_ms > now_ms and not first.has_left:
                alarm_at = trio.current_time() + (time_ms - now_ms) / SECOND_MS
                # One that is too early finds out, and is set again; setting it is what costs.
                if alarm_at < first.alarm.deadline:  # noqa: PLR1730
                    first.alarm.deadline = alarm_at
                return
            heapq.heappop(self._waiting)
            self._left -= first.has_left
            first.reached.set()
