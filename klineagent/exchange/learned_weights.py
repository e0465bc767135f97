"""What requests weigh whose weight no table says, learned from the used weight in answers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from attrs import define, field, frozen

from klineagent.exchange.budget import WeightPool

Query = Sequence[tuple[str, str]]
"""The parameters of a request, in order."""

# Assumed until an answer tells more. `fundingRate` never tells; its limit is 100 requests a minute,
# of which this leaves us 19.
UNKNOWN_WEIGHT = 20
# A client can make up any number of kinds; the one that was not asked for longest makes room.
MOST_KINDS = 1_000


@frozen
class Kind:
    """Requests that weigh the same: an endpoint, its limit, and which parameters there are."""

    path: str
    limit: str
    names: frozenset[str]

    @classmethod
    def of(cls, path: str, query: Query) -> Kind:
        """Return the kind of a request."""
        return cls(path, dict(query).get("limit", ""), frozenset(name for name, _ in query))


@frozen
class Sent:
    """How far the minute was spent when a request was sent."""

    reported: int
    used: int
    is_alone: bool
    """Whether all that is used was reported, but for this request."""

    @classmethod
    def to(cls, pool: WeightPool, weight: int) -> Sent:
        """Return it for a request whose `weight` has just been granted."""
        is_reported = pool.reported > 0 or pool.used == weight
        return cls(pool.reported, pool.used, is_reported and pool.weight_under_way == weight)


@define(eq=False)
class LearnedWeights:
    """Learns the weight of each kind of request from how far the used weight rises with it."""

    _known: OrderedDict[Kind, int] = field(factory=OrderedDict, init=False)

    def of(self, kind: Kind, first_guess: int = UNKNOWN_WEIGHT) -> int:
        """Return the weight to expect."""
        weight = self._known.setdefault(kind, first_guess)
        self._known.move_to_end(kind)
        if len(self._known) > MOST_KINDS:
            self._known.popitem(last=False)
        return weight

    def learn(self, kind: Kind, sent: Sent, pool: WeightPool, reported: int) -> None:
        """Note which used weight the answer to a request reported, before `pool` is told.

        The rise is its weight if no other request was under way; else it is no less than that.
        """
        rise = reported - sent.reported
        if rise > 0 and pool.used >= sent.used:  # in the same minute
            is_exact = sent.is_alone and pool.used == sent.used
            self._known[kind] = rise if is_exact else min(rise, self.of(kind))
