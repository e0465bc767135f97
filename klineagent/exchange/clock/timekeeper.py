"""Asks the exchange what time it is, whenever the clock is in doubt."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NoReturn

import trio
from attrs import define, field

from klineagent.core.errors import BadFrame, ExchangeError
from klineagent.core.interval import SECOND_MS
from klineagent.core.retry import Burst, Trouble
from klineagent.exchange.clock.clock import ExchangeTime
from klineagent.exchange.clock.pace import FIRST_OVER_S
from klineagent.exchange.clock.reckoning import Verdict

# Delays before the next two requests, where two answers did not settle the time.
FIRST_RETRY_DELAY_S, LONGEST_RETRY_DELAY_S = 0.1, 1.0


@define(eq=False)
class Timekeeper:
    """Keeps `time` confirmed: at the start, after a silence, and when an event contradicts it.

    It makes one request of weight 1 at a time. If an answer agrees with nothing, a second request
    follows at once: two answers that agree are enough. If they do not agree, two more follow after
    a retry delay that grows to a second. After an event was refuted it waits for a second. It asks
    an exchange on this machine some more times at the start, because its time may pass faster.
    """

    time: ExchangeTime
    _ask_exchange: Callable[[], Awaitable[tuple[int, float]]]
    """See `RestClient.server_time`."""
    _doubt: Trouble = field(factory=lambda: Trouble("clock_in_doubt", "clock_settled"), init=False)
    _steps: Burst = field(factory=lambda: Burst("clock_set"), init=False)
    _lies: Burst = field(factory=lambda: Burst("event_time_refuted"), init=False)

    async def keep(self) -> NoReturn:
        """Ask the exchange for its time whenever the clock is in doubt."""
        delay_s = FIRST_RETRY_DELAY_S
        while True:
            await self.time.doubted()
            verdict = await self._ask()
            if verdict is Verdict.ALONE and (verdict := await self._ask()) is Verdict.ALONE:
                self._doubt.lasts(ExchangeError("/time agrees neither with events nor with itself"))
                await trio.sleep(delay_s)
                delay_s = min(2 * delay_s, LONGEST_RETRY_DELAY_S)
            elif verdict is Verdict.EARLY:
                await trio.sleep(FIRST_OVER_S)
            elif verdict in {Verdict.RIGHT, Verdict.SET}:
                delay_s = FIRST_RETRY_DELAY_S
            else:
                await trio.sleep(LONGEST_RETRY_DELAY_S)

    async def _ask(self) -> Verdict | None:
        """Ask once; return the verdict on the answer, None if there was none."""
        try:
            time_ms, sent_at = await self._ask_exchange()
        except BadFrame as error:
            self._doubt.lasts(error)
            return None
        except ExchangeError:  # the symbol book logs it
            return None
        reckoning, shown_ms = self.time.reckoning, self.time.now_ms()
        steps = reckoning.steps
        verdict = self.time.answered(time_ms, sent_at)
        if verdict not in {Verdict.ALONE, Verdict.EARLY}:
            self._doubt.over()
        if verdict is Verdict.REFUTED:
            self._lies.happens(f"{_seconds(reckoning.ahead_ms)} ahead")
        if reckoning.steps > steps:
            self._steps.happens(f"by {_seconds(self.time.now_ms() - shown_ms)}")
        return verdict


def _seconds(ms: float) -> str:
    return f"{ms / SECOND_MS:.1f} s"
