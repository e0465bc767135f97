"""What the exchange would answer, with which the agent's answers to programs are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest

import msgspec
from attrs import define, frozen

from klineagent.proof.plan import ProofFailed
from klineagent.twin.exchange import Exchange
from klineagent.twin.market.aggregation import Aggregator
from klineagent.twin.market.market import Market
from klineagent.twin.rest.api import RestApi, WeightMeter

Query = Mapping[str, str]
# With the point. Volumes of made-up markets have more.
DIGITS_OF_FLOATS = 16
# Places of numbers in a row.
_OPENED, _OPEN, _HIGH, _LOW, _VOLUME, _CLOSED, _TRADES = 0, 1, 2, 3, 5, 6, 8


@frozen
class _Rows:
    """Rows of an answer as they are written: those of candles that are over, and others."""

    over: list[bytes]
    forming: list[bytes]

    @classmethod
    def at(cls, rows: Sequence[bytes], now_ms: int) -> _Rows:
        over = [row for row in rows if msgspec.json.decode(row)[_CLOSED] < now_ms]
        return cls(over, [*rows[len(over) :]])


@define(eq=False)
class MarketAnswers:
    """The exchange's answers about `market`, without faults and without limits."""

    _rest: RestApi

    @classmethod
    def of(cls, exchange: Exchange, market: Market) -> MarketAnswers:
        """Make the answers of an exchange."""
        return cls(
            RestApi(
                venue=exchange.venue,
                aggregator=Aggregator(market),
                listings=market.listings,
                meter=WeightMeter(1 << 60),
            )
        )

    def rows(self, query: Query, now_ms: int) -> list[bytes]:
        """Return the rows of an answer at a time, as they are written."""
        if int(query.get("startTime", 0)) > int(query.get("endTime", now_ms)):
            return []
        path = f"{self._rest.venue.rest_prefix}/klines"
        body = self._rest.answer("GET", path, query, now_ms).body
        if body.startswith(b"{"):
            raise ProofFailed(f"{query} is answered, and the exchange refuses it: {body.decode()}")
        return [bytes(row) for row in msgspec.json.decode(body, type=list[msgspec.Raw])]

    def fault(self, query: Query, rows: Sequence[bytes], *times_ms: int) -> str:
        """Return what is wrong with `rows` as an answer at each of the times; empty if nothing.

        All candles that are over must be there, byte by byte. The one that is forming may be there
        in any state that it had.
        """
        faults = [
            self._fault_at(query, rows, now_ms, max(times_ms)) for now_ms in dict.fromkeys(times_ms)
        ]
        return "" if "" in faults else " / ".join(faults)

    def _fault_at(self, query: Query, rows: Sequence[bytes], now_ms: int, newest_ms: int) -> str:
        theirs, ours = (_Rows.at(each, now_ms) for each in (self.rows(query, now_ms), rows))
        pairs = zip_longest(ours.over, theirs.over)
        if (differing := next((each for each in pairs if not _are_same(*each)), None)) is not None:
            one, other = differing
            return (
                f"{len(ours.over)} candles that are over instead of {len(theirs.over)};"
                f" {_text(one)} instead of {_text(other)}"
            )
        if not ours.forming:
            return ""
        if len(ours.forming) > 1 or not theirs.forming:
            return f"{_text(ours.forming[0])} though no candle is forming, or there are others"
        state = msgspec.json.decode(ours.forming[0])
        candle = {"startTime": str(state[_OPENED]), "endTime": str(state[_OPENED])}
        [newest] = self.rows({**query, **candle}, newest_ms)
        return _impossible(state, msgspec.json.decode(newest))


def _are_same(one: bytes | None, other: bytes | None) -> bool:
    """Whether two rows are the same bytes, but for numbers that floats cannot tell apart."""
    if one is None or other is None or one == other:
        return one == other
    fields = zip(msgspec.json.decode(one), msgspec.json.decode(other), strict=True)
    return all(told == true or are_same_float(told, true) for told, true in fields)


def are_same_float(told: object, true: object) -> bool:
    """Whether two texts are numbers with more digits than a float has, and the same as floats."""
    if not isinstance(told, str) or not isinstance(true, str):
        return False
    return len(told) == len(true) > DIGITS_OF_FLOATS and float(told) == float(true)


def _impossible(state: list[str], newest: list[str]) -> str:
    """Return why a candle whose `newest` state is known never had this one; empty if it may."""
    has_opened = int(state[_TRADES]) > 0
    is_possible = (
        state[_OPENED] == newest[_OPENED]
        # Before the first trade of a candle the exchange writes the last price.
        and (state[_OPEN] == newest[_OPEN] or not has_opened)
        and (float(state[_HIGH]) <= float(newest[_HIGH]) or not has_opened)
        and (float(state[_LOW]) >= float(newest[_LOW]) or not has_opened)
        and float(state[_VOLUME]) <= float(newest[_VOLUME])
        and int(state[_TRADES]) <= int(newest[_TRADES])
        and state[_CLOSED] == newest[_CLOSED]
    )
    return "" if is_possible else f"{state} of a candle that is {newest} now"


def _text(row: bytes | None) -> str:
    return "none" if row is None else row.decode()
