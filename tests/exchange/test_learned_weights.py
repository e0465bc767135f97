"""The weight of requests that no table has, learned from answers."""

from __future__ import annotations

from klineagent.core.interval import MINUTE_MS
from klineagent.exchange import learned_weights
from klineagent.exchange.budget import WeightBudget, WeightPool
from klineagent.exchange.clock.clock import ExchangeTime
from klineagent.exchange.learned_weights import UNKNOWN_WEIGHT, Kind, LearnedWeights, Query, Sent

MIDNIGHT_MS = 1_769_904_000_000
DEPTH: Query = (("limit", "5"), ("symbol", "BTCUSDT"))


def _budget() -> WeightBudget:
    time = ExchangeTime()
    time.confirm(MIDNIGHT_MS)
    return WeightPool("futures", 2_400).join(time)


async def _asks(budget: WeightBudget, weights: LearnedWeights, kind: Kind, reported: int) -> None:
    """A request whose answer reports a used weight."""
    async with budget.spend(weight := weights.of(kind), 4):
        sent = Sent.to(budget.pool, weight)
        weights.learn(kind, sent, budget.pool, reported)
        budget.pool.report_used(reported)


async def test_an_answer_tells_what_its_request_weighs() -> None:
    """Each limit, and each set of parameters, for itself."""
    budget, weights = _budget(), LearnedWeights()
    few, many = Kind.of("/depth", DEPTH), Kind.of("/depth", (("limit", "1000"), *DEPTH[1:]))
    assert weights.of(few) == UNKNOWN_WEIGHT
    await _asks(budget, weights, few, 2)
    assert (weights.of(few), weights.of(many)) == (2, UNKNOWN_WEIGHT)
    budget.pool.used = 2
    await _asks(budget, weights, many, 52)
    assert weights.of(many) == 50
    assert Kind.of("/ticker", ()) != Kind.of("/ticker", (("symbol", "BTCUSDT"),))


async def test_beside_other_requests_a_rise_is_an_upper_bound() -> None:
    """It can make a weight smaller, never larger: others may have caused it."""
    budget, weights, kind = _budget(), LearnedWeights(), Kind.of("/depth", DEPTH)
    async with budget.spend(10, 0):
        await _asks(budget, weights, kind, 200)
        assert weights.of(kind) == UNKNOWN_WEIGHT
        await _asks(budget, weights, kind, 205)
        assert weights.of(kind) == 5
        await _asks(budget, weights, kind, 300)
        assert weights.of(kind) == 5


async def test_an_answer_without_the_header_tells_nothing() -> None:
    """Nor does one of another minute."""
    budget, weights, kind = _budget(), LearnedWeights(), Kind.of("/fundingRate", ())
    await _asks(budget, weights, kind, 0)
    assert weights.of(kind) == UNKNOWN_WEIGHT
    budget.pool.report_used(900)
    async with budget.spend(weights.of(kind), 4):
        sent = Sent.to(budget.pool, weights.of(kind))
        budget.time.confirm(MIDNIGHT_MS + MINUTE_MS)
        budget.pool.turn_minute()
        weights.learn(kind, sent, budget.pool, 901)
    assert weights.of(kind) == UNKNOWN_WEIGHT


def test_made_up_kinds_do_not_fill_the_memory() -> None:
    """What was asked for longest ago is forgotten."""
    weights = LearnedWeights()
    for number in range(learned_weights.MOST_KINDS + 10):
        weights.of(Kind.of(f"/{number}", ()))
    assert len(weights._known) == learned_weights.MOST_KINDS
