"""A program that reads from the running agent all the time; what it gets is true, or an error."""

from __future__ import annotations

import random
from collections import Counter
from typing import NoReturn, cast

import trio
from attrs import define, field

from klineagent.agent import Agent
from klineagent.core.errors import ReadError
from klineagent.core.interval import DAY_MS, MINUTE_MS, SECOND_MS, Interval
from klineagent.core.kline import Kline
from klineagent.proof.market_answers import MarketAnswers
from klineagent.proof.plan import ProofFailed
from klineagent.reading.candles import CandleReader
from klineagent.reading.past import BEGINNING_OF_TIME_MS
from klineagent.reading.ranges import RangeReader
from klineagent.reading.request import CandleRange, read_klines_request
from klineagent.reading.rows import RowFormat
from klineagent.series.venues import RunningVenue

# Between two questions, on average.
ASKS_EVERY_S = 30.0
# The share of them that comes just after a candle is over, as those of bots do.
AT_THE_CLOSE = 0.3
# The share that asks for documents.
DOCUMENTS = 0.2
# How far back they reach, in candles; most are about the newest.
REACH = (3, 30, 700)
MOST_ROWS = 200
# What COIN-M takes in one request.
LONGEST_MS = 199 * DAY_MS
TRUE, REFUSED = "compared with the exchange's", "refused"


@define(eq=False, kw_only=True)
class ProofReader:
    """Asks for candles of one venue, of any series, times and limit, as programs do.

    An answer is compared with the exchange's own at the agent's time: when it was asked, or when it
    answered, as a candle may close in between.
    """

    venue_name: str
    symbols: tuple[str, ...]
    intervals: tuple[Interval, ...]
    answers: MarketAnswers
    chance: random.Random
    every_s: float = ASKS_EVERY_S
    counts: Counter[str] = field(factory=Counter, init=False)
    """Answers, by what became of them."""
    refusals: Counter[str] = field(factory=Counter, init=False)
    """Refused reads by their reasons' last words."""

    async def read(self, agent: Agent) -> NoReturn:
        """Read from `agent` for ever.

        Raises:
            ProofFailed: an answer is wrong, or not whole.
        """
        reader = CandleReader(venues=agent.venues, writer=agent.writer)
        ranges = RangeReader(venues=agent.venues, writer=agent.writer)
        with agent.bus.subscribed(reader.tail):
            while True:
                await trio.sleep(self.chance.expovariate(1 / self.every_s))
                running = agent.venues.get(self.venue_name)
                if running is not None and running.context.time.is_known:
                    if self.chance.random() < AT_THE_CLOSE:
                        now_ms = running.context.time.now_ms()
                        wait_ms = MINUTE_MS - now_ms % MINUTE_MS + self.chance.randint(0, 400)
                        await trio.sleep(wait_ms / SECOND_MS)
                    if self.chance.random() < DOCUMENTS:
                        await self._ask_range(ranges, running)
                    else:
                        await self._ask(reader, running)

    async def _ask(self, reader: CandleReader, running: RunningVenue) -> None:
        time = running.context.time
        asked_ms = time.now_ms()
        query = self._query(asked_ms)
        asked = read_klines_request(query, running.venue)
        try:
            rows = reader.klines_at_once(running, asked)
            if rows is None:
                rows, _ = await reader.klines(running, asked)
        except ReadError as error:
            self.counts[REFUSED] += 1
            self.refusals[str(error)] += 1
            return
        truth, times_ms = self._as_recorded(query, running), (asked_ms, time.now_ms())
        fault = self.answers.fault(truth, rows, *times_ms)
        if fault and asked.is_for_one:
            # Where no state of the newest one has come, the candle before is the answer.
            before_ms = min(
                int(query.get("endTime", asked_ms)), asked.interval.open_at(asked_ms) - 1
            )
            fault = self.answers.fault({**truth, "endTime": str(before_ms)}, rows, *times_ms)
        if fault:
            raise ProofFailed(f"{self.venue_name} klines {query} at {asked_ms}: {fault}")
        self.counts[TRUE] += 1

    async def _ask_range(self, ranges: RangeReader, running: RunningVenue) -> None:
        """Ask for closed candles from one time to another, as documents do."""
        interval = self.chance.choice(self.intervals)
        symbol = self.chance.choice(self.symbols)
        asked_ms = running.context.time.now_ms()
        end_ms = interval.shifted(interval.open_at(asked_ms), -self.chance.randint(0, 3))
        first_ms = interval.shifted(end_ms, -self.chance.randint(1, MOST_ROWS))
        wanted = CandleRange(symbol=symbol, interval=interval, first_ms=first_ms, end_ms=end_ms)
        rows: list[Kline] = []
        try:
            series = ranges.one(running.venue, symbol, interval)
            [opened] = await ranges.open([(series, wanted)], with_forming=False, as_rows=True)
            while (chunk := await opened.part()) is not None:
                rows += cast("list[Kline]", chunk)
        except ReadError as error:
            self.counts[REFUSED] += 1
            self.refusals[str(error)] += 1
            return
        info = (running.context.book.listings or {}).get(symbol)
        written = RowFormat.of(info, running.venue)
        first_ms = max(first_ms, series.ledger.first_ms)
        query = {"symbol": symbol, "interval": interval.value, "limit": "1000"}
        query |= {"startTime": str(first_ms), "endTime": str(end_ms - 1)}
        if fault := self.answers.fault(query, [*map(written.row, rows)], asked_ms):
            raise ProofFailed(f"{self.venue_name} candles {query} at {asked_ms}: {fault}")
        self.counts[TRUE] += 1

    def _query(self, now_ms: int) -> dict[str, str]:
        """Make up a question."""
        dice = self.chance
        interval = dice.choice(self.intervals)
        query = {"symbol": dice.choice(self.symbols), "interval": interval.value}
        most = interval.count(interval.first_open(now_ms - LONGEST_MS), interval.open_at(now_ms))
        candles = dice.randint(0, min(dice.choice(REACH), most))
        since_ms = interval.shifted(interval.open_at(now_ms), -candles)
        since_ms += dice.choice([0, 1, dice.randint(0, MINUTE_MS)])
        kind = dice.choice(["neither", "neither", "since", "until", "both"])
        if kind in {"since", "both"}:
            query["startTime"] = str(since_ms)
        if kind in {"until", "both"}:
            until_ms = interval.shifted(interval.open_at(since_ms), dice.randint(0, MOST_ROWS))
            query["endTime"] = str(max(since_ms, min(until_ms, now_ms) - dice.randint(0, 1)))
        query["limit"] = str(dice.choice([1, 2, 3, dice.randint(1, MOST_ROWS)]))
        return query

    @staticmethod
    def _as_recorded(query: dict[str, str], running: RunningVenue) -> dict[str, str]:
        """Return the question that is answered for one from before the listing on."""
        interval = Interval(query["interval"])
        listed_ms = interval.open_at(running.context.book.listed_ms(query["symbol"]))
        listed_ms = max(listed_ms, BEGINNING_OF_TIME_MS)
        series = running.registry.subscription(query["symbol"], interval)
        if series is None or int(query.get("startTime", listed_ms + 1)) > listed_ms:
            return query
        return {**query, "startTime": str(max(listed_ms, series.ledger.first_ms))}
