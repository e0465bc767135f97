"""The subscriptions as the command API needs them.

Symbols are named as in answers: bare on the default venue, else `venue:SYMBOL`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

import trio

from klineagent.core.errors import NotConfirmed
from klineagent.core.interval import Interval
from klineagent.series.registry import SubscriptionInfo


class Subscriptions(Protocol):
    """The subscriptions; `klineagent.series.venues.Venues` implements it."""

    def count(self) -> int:
        """Return the number of subscriptions."""

    def symbols(self) -> list[str]:
        """Return their symbols, sorted."""

    def listing(self) -> Iterable[SubscriptionInfo]:
        """Describe all subscriptions; the caller may await between them."""

    def intervals(self, symbol: str) -> list[Interval]:
        """Return the intervals at which `symbol` runs, or should."""

    def obstacle(self, symbol: str) -> str:
        """Say why `symbol` cannot be confirmed at the moment; empty if unknown."""

    async def add(self, symbol: str, interval: Interval) -> bool:
        """Add a subscription; return False if it was running already.

        Raises:
            RequestError: the subscription could not be started, and was undone.
        """

    async def remove(self, symbol: str, interval: Interval) -> None:
        """Remove a subscription.

        Raises:
            NotRunning: there is no such subscription.
        """


@contextmanager
def confirmed_within(seconds: float, obstacle: Callable[[], str]) -> Iterator[None]:
    """Bound how long the block waits for the exchange; `obstacle` says why it does not answer.

    Raises:
        NotConfirmed: the block was not done in time, and was cancelled.
    """
    try:
        with trio.fail_after(seconds):
            yield
    except trio.TooSlowError:
        raise not_confirmed(seconds, obstacle()) from None


def not_confirmed(within_s: float, obstacle: str) -> NotConfirmed:
    """Make the error of a call whose deadline has passed."""
    because = f": {obstacle}" if obstacle else ""
    return NotConfirmed(f"the exchange did not confirm within {within_s:g} s{because}")
