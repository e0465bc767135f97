"""The exchange's clock as the agent knows it: the clock by which candles close."""

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
    """A task that waits for a moment."""

    reached: trio.Event = field(factory=trio.Event, init=False)
    alarm: trio.CancelScope = field(factory=trio.CancelScope, init=False)
    """Ends the wait when no event has advanced the clock by then; only the first waiter has one."""
    has_left: bool = field(default=False, init=False)


@define(eq=False)
class ExchangeTime:
    """Shows the newest credible time of the exchange plus the time that has passed here since.

    It is late by the latency of messages, and never early unless the local clock runs fast. So what
    counts as closed by it is closed, whatever the local clock shows, and even if a simulated
    exchange's time passes faster. `Reckoning` decides which times are credible.
    """

    is_simulated: bool = False
    """See `Pace`."""
    reckoning: Reckoning = field(init=False)
    _known: trio.Event = field(factory=trio.Event, init=False)
    _doubt: trio.Event = field(factory=trio.Event, init=False)
    """Set when the clock may need confirmation sooner than expected."""
    # The waiters and their moments, the earliest first. Cancelled waiters stay until they are first
    # or outnumber the others. Only the first has an alarm, so a jump of the clock resets one alarm,
    # however many wait: Trio's clock stops while the machine is suspended, the exchange's does not.
    _waiting: list[tuple[float, int, _Waiter]] = field(factory=list, init=False)
    _order: count[int] = field(factory=count, init=False)
    _left: int = field(default=0, init=False)
    """The number of cancelled waiters."""

    def __attrs_post_init__(self) -> None:
        self.reckoning = Reckoning(trio.current_time(), Pace(self.is_simulated))

    def advance(self, time_ms: int) -> None:
        """Advance the clock by an event that carries `time_ms`."""
        self.reckoning.advance(time_ms, trio.current_time())
        self._has_changed()

    def answered(self, time_ms: int, sent_at: float) -> Verdict:
        """Take the exchange's answer `time_ms` to a request sent at `sent_at` by Trio's clock."""
        setbacks = self.reckoning.setbacks
        verdict = self.reckoning.answer(time_ms, sent_at, trio.current_time())
        self._has_changed(is_set_back=self.reckoning.setbacks > setbacks)
        return verdict

    def confirm(self, time_ms: int) -> None:
        """Set the clock to `time_ms`, without asking the exchange."""
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
        """Return the exchange's time.

        Until it is known this counts from the agent's start, so that minutes pass all the same.
        """
        return self.reckoning.now_ms(trio.current_time())

    def allows(self, time_ms: int) -> bool:
        """Whether it can be `time_ms` by now, within the bound by which clocks may differ.

        Every time is allowed until the exchange's time is known.
        """
        return self.reckoning.allows(time_ms, trio.current_time())

    @property
    def is_known(self) -> bool:
        """See `Reckoning`."""
        return self.reckoning.is_known

    def silent_s(self) -> float:
        """Return the seconds since a reported time was last believed."""
        return self.reckoning.silent_s(trio.current_time())

    async def known(self) -> None:
        """Wait until the exchange's time is known."""
        await self._known.wait()

    async def doubted(self) -> None:
        """Wait until the exchange should be asked for its time."""
        while (trusted_s := self.reckoning.trusted_s(trio.current_time())) > 0:
            self._doubt = trio.Event()
            with trio.move_on_after(trusted_s):
                await self._doubt.wait()

    async def until(self, time_ms: float) -> bool:
        """Wait until the exchange's clock shows `time_ms`; inf only waits for a setback.

        Returns:
            Whether it does; False if the clock was set back meanwhile, and the caller should
            compute anew for which moment it waits.
        """
        setbacks = self.reckoning.setbacks
        while self.now_ms() < time_ms:  # an alarm may be early: a late event moves the clock back
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
        """Wake the waiters whose moment is reached, and set the alarm of the then first one."""
        now_ms = self.now_ms()
        while self._waiting:
            time_ms, _, first = self._waiting[0]
            if time_ms > now_ms and not first.has_left:
                alarm_at = trio.current_time() + (time_ms - now_ms) / SECOND_MS
                # An alarm that is too early is set again when it rings; setting is what costs.
                if alarm_at < first.alarm.deadline:  # noqa: PLR1730
                    first.alarm.deadline = alarm_at
                return
            heapq.heappop(self._waiting)
            self._left -= first.has_left
            first.reached.set()
