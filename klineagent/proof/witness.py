"""What really happened, against what the agent says: the market's own candles as the measure."""

from __future__ import annotations

import hashlib
from collections import Counter
from datetime import UTC, datetime

from attrs import define, field

from klineagent.kline import Kline
from klineagent.market.venues import VENUES
from klineagent.proof.plan import ProofFailed
from klineagent.series.ledger import Ledger
from klineagent.sim.candle import Candle
from klineagent.sim.charts import Charts
from klineagent.sim.interval import SECOND_MS, Interval
from klineagent.sim.market import Listing, Market
from klineagent.storage.memory import MemoryStore


@define(eq=False, kw_only=True)
class Witness:
    """Compares rows with the market as they are stored, and whole series in the end."""

    market: Market
    venue_name: str
    checked: int = field(default=0, init=False)
    absent: Counter[str] = field(factory=Counter, init=False)
    _charts: Charts = field(init=False)
    _listings: dict[str, Listing] = field(init=False)
    _history: hashlib.blake2b = field(factory=hashlib.blake2b, init=False)

    def __attrs_post_init__(self) -> None:
        self._charts = Charts(self.market)
        self._listings = {listing.symbol: listing for listing in self.market.listings}

    @property
    def digest(self) -> str:
        """Of everything that was stored, in order."""
        return self._history.hexdigest()[:16]

    def examine(self, klines: tuple[Kline, ...]) -> None:
        """Rows on their way into the store.

        Raises:
            ProofFailed: one that calls itself closed is not what was traded.
        """
        for kline in klines:
            self._history.update(b"%d %d" % (kline.open_time, kline.version))
            if kline.is_closed:
                self._compare(kline)

    def check_series(
        self,
        store: MemoryStore,
        ledger: Ledger,
        symbol: str,
        *,
        first_ms: int,
        end_ms: int,
        set_aside: set[tuple[str, str, int]],
    ) -> None:
        """Every candle of a series that opened in [`first_ms`, `end_ms`) and has closed.

        Raises:
            ProofFailed: one is missing without a reason, or there and should not be.
        """
        interval = Interval(ledger.interval.value)
        open_ms = interval.open_at(max(first_ms, self._listings[symbol].onboard_ms))
        while open_ms < end_ms:
            truth = self._charts.whole(symbol, interval, open_ms)
            stored = store.klines.get((self.venue_name, symbol, interval.value, open_ms))
            is_there = stored is not None and stored.is_closed
            if truth is None:
                if is_there:
                    raise ProofFailed(f"{name_of(symbol, interval, open_ms)} was made up")
                is_covered = ledger.has_begun and ledger.first_ms <= open_ms
                is_known = open_ms in ledger.absences or (
                    # There every interval should have a candle: it is looked for without end.
                    VENUES[self.venue_name].has_every_candle and open_ms in ledger.holes
                )
                if is_covered and not is_known:
                    raise ProofFailed(
                        f"{name_of(symbol, interval, open_ms)} does not exist, and nobody knows;"
                        f" the ledger {account_of(ledger)}"
                    )
                self.absent["no such candle"] += 1
            elif is_there:
                self.checked += 1
            elif (symbol, interval.value, open_ms) in set_aside:
                self.absent["set aside"] += 1
            else:
                raise ProofFailed(
                    f"{name_of(symbol, interval, open_ms)} is missing;"
                    f" the ledger {account_of(ledger)}"
                )
            open_ms = interval.next_open(open_ms)

    def _compare(self, kline: Kline) -> None:
        interval = Interval(kline.interval)
        is_on_grid = interval.open_at(kline.open_time) == kline.open_time
        # `Charts` answer for times on the grid alone.
        truth = self._charts.whole(kline.symbol, interval, kline.open_time) if is_on_grid else None
        if truth is None:
            raise ProofFailed(f"{name_of(kline.symbol, interval, kline.open_time)} was made up")
        expected = _fields(truth, self._listings[kline.symbol])
        told: tuple[float, ...] = kline[5:14]
        closes_ms = interval.close_of(kline.open_time)
        if (kline.close_time, *told) != (closes_ms, *expected):
            raise ProofFailed(
                f"{name_of(kline.symbol, interval, kline.open_time)} is wrong:"
                f" {told} stands for {expected}"
            )


def _fields(candle: Candle, listing: Listing) -> tuple[float, ...]:
    # Dividing integers rounds as reading the decimal does: once, to the nearest.
    prices, quantities = 10**listing.price_places, 10**listing.quantity_places
    quotes = 10**listing.quote_places
    return (
        candle.open / prices,
        candle.high / prices,
        candle.low / prices,
        candle.close / prices,
        candle.volume / quantities,
        candle.quote_volume / quotes,
        candle.trades,
        candle.taker_volume / quantities,
        candle.taker_quote_volume / quotes,
    )


def name_of(symbol: str, interval: object, open_ms: int) -> str:
    """A candle, for people."""
    return f"{symbol} {interval} of {_time(open_ms)}"


def _time(time_ms: int) -> str:
    return f"{datetime.fromtimestamp(time_ms / SECOND_MS, UTC):%Y-%m-%d %H:%M:%S}"


def account_of(ledger: Ledger) -> str:
    """What `ledger` knows, for people."""
    holes = [(_time(first), _time(end), mark.urgency.name) for first, end, mark in ledger.holes]
    absences = [(_time(first), _time(end)) for first, end, _ in ledger.absences]
    return (
        f"goes from {_time(ledger.first_ms)} to {_time(ledger.horizon_ms)}"
        f" with holes {holes} and absences {absences}"
    )
