"""The proof of one venue: its exchange and market, the oracle that knows it, the audit of it."""

from __future__ import annotations

import random
from collections.abc import Collection
from itertools import product

import trio
from attrs import define, field

from klineagent.agent import Agent
from klineagent.core.interval import MINUTE_MS, SECOND_MS, Interval
from klineagent.proof.active_faults import ActiveFaults
from klineagent.proof.audit import ProofAudit
from klineagent.proof.listening import ProofListener
from klineagent.proof.market_answers import MarketAnswers
from klineagent.proof.oracle import Oracle, name_of
from klineagent.proof.plan import ProofFailed, ProofPlan
from klineagent.proof.reading import ProofReader
from klineagent.storage.memory.store import MemoryStore
from klineagent.twin.exchange import Exchange
from klineagent.twin.market.eventful import EventfulMarket

INTERVALS = tuple(each for each in Interval if each is not Interval.S1)
# What agents spend of the weight that the exchange allows, at most, whatever fails.
MOST_OF_THE_WEIGHT = 0.8
# A process that begins learns only by its first answer what one before it has used in that minute:
# until then it asks for the symbols, and for the time now and then.
_TIMES_ASKED_BEFORE = 5
# After another venue's turn, or one of all: the longest a fault is felt, as by a halted symbol.
CALM_AFTER_S = 20 * 60.0


@define(eq=False, kw_only=True)
class VenueProof:
    """All that proves one venue."""

    exchange: Exchange
    market: EventfulMarket
    symbols: tuple[str, ...]
    store: MemoryStore
    active_faults: ActiveFaults
    seed: int
    reader: ProofReader = field(init=False)
    listener: ProofListener = field(init=False)
    oracle: Oracle = field(init=False)
    audit: ProofAudit = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.oracle = Oracle(market=self.market, venue_name=self.name)
        answers = MarketAnswers.of(self.exchange, self.market)
        self.listener = ProofListener(
            venue_name=self.name, symbols=self.symbols, intervals=INTERVALS, answers=answers
        )
        self.reader = ProofReader(
            venue_name=self.name,
            symbols=self.symbols,
            intervals=INTERVALS,
            answers=answers,
            chance=random.Random(f"{self.seed}/{self.name}/reads"),  # noqa: S311 - no secret
        )
        self.audit = ProofAudit(
            store=self.store,
            venue_name=self.name,
            active_faults=self.active_faults,
            oracle=self.oracle,
        )

    @property
    def name(self) -> str:
        """The venue's name."""
        return self.exchange.venue.name

    def check_limits(self) -> None:
        """Check that no limit of the exchange was exceeded.

        Raises:
            ProofFailed: one was, or more of the weight was used than agents may use.
        """
        if self.exchange.breaches:
            raise ProofFailed(f"limits of {self.name} were broken: {dict(self.exchange.breaches)}")
        meter = self.exchange.meter
        unknowing = self.exchange.venue.exchange_info_weight + _TIMES_ASKED_BEFORE
        if meter.most_used > meter.limit * MOST_OF_THE_WEIGHT + unknowing:
            raise ProofFailed(
                f"{meter.most_used} of {meter.limit} weight was used in a minute, counted by"
                f" {self.name}: more than {MOST_OF_THE_WEIGHT:.0%}"
            )

    def time_arrivals(self, agent: Agent, started_at: float, calm_since: float) -> None:
        """Check that candles arrive in time, after it has been calm here for a while.

        Raises:
            ProofFailed: one is late.
        """
        now, now_ms = trio.current_time(), self.exchange.clock.now_ms()
        since = max(started_at, calm_since) + CALM_AFTER_S
        if now > since:
            self.audit.time_arrivals(agent, now_ms - round((now - since) * SECOND_MS), now_ms)

    def check_series(
        self,
        plan: ProofPlan,
        agent: Agent,
        begin_ms: int,
        set_aside: Collection[tuple[str, str, str, int]],
    ) -> None:
        """Check every series from its beginning to now.

        Raises:
            ProofFailed: see `Oracle.check_series`, or a series is not recorded.
        """
        running = agent.venues.get(self.name)
        subscriptions = [] if running is None else running.registry.subscriptions()
        recorded = {(each.symbol, each.interval): each.ledger for each in subscriptions}
        for series in product(self.symbols, INTERVALS):
            if (ledger := recorded.get(series)) is None:
                raise ProofFailed(f"{name_of(*series, begin_ms)} and all after it are not recorded")
            self.oracle.check_series(
                self.store,
                ledger,
                series[0],
                begin_ms=begin_ms,
                history=plan.history,
                # The newest candle may not be due yet.
                end_ms=self.exchange.clock.now_ms() - MINUTE_MS,
                set_aside={candle[1:] for candle in set_aside if candle[0] == self.name},
            )
