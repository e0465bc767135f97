"""What really happened, against what the agent says: the market's own candles as the measure."""

from __future__ import annotations

import hashlib
from collections import Counter
from datetime import UTC, datetime

from attrs import define, field

from klineagent.core.kline import Kline
from klineagent.proof.plan import ProofFailed
from klineagent.series.ledger import Absent, Ledger
from klineagent.storage.memory.store import MemoryStore
from klineagent.twin.interval import SECOND_MS, TwinInterval
from klineagent.twin.market.aggregation import Aggregator
from klineagent.twin.market.candle import Candle
from klineagent.twin.market.market import Listing, Market


@define(eq=False, kw_only=True)
class Witness:
    """Compares rows with the market as they are stored, and whole series in the end."""

    market: Market
    venue_name: str
    checked: int = field(default=0, init=False)
    absent: Counter[str] = field(factory=Counter, init=False)
    _aggregator: Aggregator = field(init=False)
    _listings: dict[str, Listing] = field(init=False)
    _history: hashlib.blake2b = field(factory=hashlib.blake2b, init=False)

    def __attrs_post_init__(self) -> None:
        self._aggregator = Aggregator(self.market)
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

    def exists(self, symbol: str, interval: TwinInterval, open_ms: int) -> bool:
        """Whether there is such a candle."""
        return self._aggregator.whole(symbol, interval, open_ms) is not None

    def check_series(
        self,
        store: MemoryStore,
        ledger: Ledger,
        symbol: str,
        *,
        begin_ms: int,
        history: int,
        end_ms: int,
        set_aside: set[tuple[str, str, int]],
    ) -> None:
        """Every candle of a series that has closed, from `history` ones before `begin_ms` on.

        Those count that whoever reads the table gets: of each the one row that ranks highest.

        Raises:
            ProofFailed: one is missing without a reason, or there and should not be, or the agent
                says something else of it.
        """
        interval = TwinInterval(ledger.interval.value)
        open_ms = self._first_open(symbol, interval, begin_ms, history)
        end_ms = interval.open_at(end_ms)
        while open_ms < end_ms:
            stored = store.klines.get((self.venue_name, symbol, interval.value, open_ms))
            told = self._told_wrong(ledger, open_ms, stored)
            truth = self._aggregator.whole(symbol, interval, open_ms)
            if stored is not None and stored.is_closed:
                self._compare(stored)
                self.checked += 1
            elif truth is None:
                self.absent["no such candle"] += 1
                is_covered = ledger.has_begun and ledger.first_ms <= open_ms
                if is_covered and open_ms not in ledger.absences:
                    told = "does not exist, and nobody knows"
            elif (symbol, interval.value, open_ms) in set_aside:
                self.absent["set aside"] += 1
            else:
                told = "is missing"
            if told:
                raise ProofFailed(
                    f"{name_of(symbol, interval, open_ms)} {told}; the ledger {account_of(ledger)}"
                )
            open_ms = interval.next_open(open_ms)

    def _first_open(self, symbol: str, interval: TwinInterval, begin_ms: int, history: int) -> int:
        """Where the history of a series begins; there is none from before its listing."""
        listed_ms = interval.open_at(self._listings[symbol].onboard_ms)
        open_ms = interval.open_at(begin_ms)
        for _ in range(history):
            if open_ms <= listed_ms:
                break
            open_ms = interval.open_at(open_ms - 1)
        return open_ms

    def _told_wrong(self, ledger: Ledger, open_ms: int, stored: Kline | None) -> str:
        """What the agent says of a candle that is stored, as far as it is not true."""
        if stored is None or not stored.is_closed:
            return ""
        if open_ms in ledger.gaps:
            return "is said to be missing, and is stored"
        # Of a row that was refused another state may have been taken a moment later.
        absence = ledger.absences.at(open_ms)
        if absence is None or absence.mark.reason is Absent.REFUSED:
            return ""
        return "is said not to exist, and is stored"

    def _compare(self, kline: Kline) -> None:
        interval = TwinInterval(kline.interval)
        is_on_grid = interval.open_at(kline.open_time) == kline.open_time
        # `Aggregator` answer for times on the grid alone.
        truth = (
            self._aggregator.whole(kline.symbol, interval, kline.open_time) if is_on_grid else None
        )
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
    gaps = [(_time(first), _time(end), mark.urgency.name) for first, end, mark in ledger.gaps]
    absences = [
        (_time(first), _time(end), mark.reason.name) for first, end, mark in ledger.absences
    ]
    return (
        f"goes from {_time(ledger.first_ms)} to {_time(ledger.horizon_ms)}"
        f" with gaps {gaps} and absences {absences}"
    )
