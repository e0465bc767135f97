"""What the command server needs of the subscriptions it commands."""

from __future__ import annotations

from typing import Protocol

from klineagent.core.errors import NotConfirmed
from klineagent.core.interval import Interval
from klineagent.series.registry import SubscriptionInfo


class Subscriptions(Protocol):
    """The subscriptions; `klineagent.series.desired.desired.Desired` is the real thing."""

    def count(self) -> int:
        """How many there are."""

    def symbols(self) -> list[str]:
        """Their symbols, sorted."""

    def listing(self) -> list[SubscriptionInfo]:
        """All of them."""

    def intervals(self, symbol: str) -> list[Interval]:
        """Those at which `symbol` runs, or should."""

    def obstacle(self) -> str:
        """Why nothing can be confirmed at this moment, if that is known."""

    async def add(self, symbol: str, interval: Interval) -> bool:
        """Start one; False if it ran already.

        Raises:
            RequestError: it could not be started, and nothing is left of the attempt.
        """

    async def remove(self, symbol: str, interval: Interval) -> None:
        """Stop one.

        Raises:
            NotRunning: there is no such subscription.
        """


def not_confirmed(subscriptions: Subscriptions, within_s: float) -> NotConfirmed:
    """The error of a call whose deadline has passed."""
    obstacle = subscriptions.obstacle()
    because = f": {obstacle}" if obstacle else ""
    return NotConfirmed(f"the exchange did not confirm within {within_s:g} s{because}")
