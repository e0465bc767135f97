"""Asks the exchange what the agent cannot answer itself, for programs that read."""

from __future__ import annotations

import re
from collections.abc import Iterable

import trio
from attrs import define, field

from klineagent.core.errors import (
    BadRead,
    ExchangeUnreachable,
    NotReadable,
    NotSent,
    NotServed,
    Overloaded,
)
from klineagent.core.sharing import Sharing
from klineagent.exchange.learned_weights import Query
from klineagent.exchange.rest import RawAnswer, RestClient
from klineagent.exchange.venues import Venue
from klineagent.series.venues import Venues

# How long a request waits for requests of the agent itself.
TURN_WITHIN_S = 5.0
# A bot that asks for a hundred symbols one by one has one of them under way.
MOST_AT_ONCE = 50
_PATH = re.compile(r"(/[A-Za-z0-9]+){3,6}")
# What proves an account, by whatever name: it is not ours to carry.
_SIGNED = re.compile(r"key|token|secret|sign|timestamp|recvwindow", re.IGNORECASE)
# Paths that hold one of these words are about an account, or about orders.
_OF_AN_ACCOUNT = re.compile(
    r"account|adlquantile|algo|(?<!insurance)balance|commission|feeburn|income|leverage|listenkey|margin"
    r"|multiassets|\bmy|order|position|ratelimit|stream|symbolconfig|tradingstatus|usertrades",
    re.IGNORECASE,
)
_NOT_AUTHORIZED = -2015


@define(eq=False, kw_only=True)
class Forwarder:
    """Passes requests on to the exchange, within the share of its weight that is left to them.

    Nothing of a client goes along but path and parameters. Who asks what another is asking already
    shares the answer.
    """

    venues: Venues
    _under_way: Sharing[tuple[str, Query], RawAnswer] = field(factory=Sharing, init=False)

    async def answer(self, venue: Venue, path: str, query: Iterable[tuple[str, str]]) -> RawAnswer:
        """Return the exchange's answer, whatever its status; the venue is opened if it must be.

        Raises:
            ReadError: the request is none to pass on, there is no room for it, or no answer came.
        """
        asked = path, _public(path, query)

        async def ask() -> RawAnswer:
            if len(self._under_way) > MOST_AT_ONCE:
                raise Overloaded("too many requests wait for the exchange", retry_after_s=1)
            running = await self.venues.open(venue)
            return await _ask(running.context.rest, *asked)

        return await self._under_way.answer(asked, ask)


async def _ask(rest: RestClient, path: str, query: Query) -> RawAnswer:
    if (held_s := rest.budget.spending().backing_off_s) > 0:
        reason = rest.last_error or "the exchange does not answer"
        raise Overloaded(f"requests are held: {reason}", retry_after_s=held_s)
    if not rest.budget.pool.may_forward(rest.weight_of(path, query)):
        raise Overloaded(
            "this minute's share of request weight for --forward is spent",
            retry_after_s=rest.budget.minute_left_s(),
        )
    waiting = trio.CancelScope(deadline=trio.current_time() + TURN_WITHIN_S)
    try:
        return await rest.pass_on(path, query, waiting)
    except NotSent as error:
        raise Overloaded("requests for missing candles go first", retry_after_s=1) from error
    except ExchangeUnreachable as error:
        raise NotReadable(str(error)) from error


def _public(path: str, query: Iterable[tuple[str, str]]) -> Query:
    """Return the parameters of a public request, in an order that is the same for equal ones.

    Raises:
        NotServed: no endpoint has such a path.
        BadRead: the request is signed, or about an account.
    """
    if _PATH.fullmatch(path) is None:
        raise NotServed(f"{path} is not served here")
    kept = tuple(sorted((name, value) for name, value in query if name != "token"))
    if _OF_AN_ACCOUNT.search(path) or any(_SIGNED.search(name) for name, _ in kept):
        raise BadRead(
            _NOT_AUTHORIZED, "signed requests are not forwarded; send them to the exchange itself"
        )
    return kept
