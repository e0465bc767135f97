"""The oracle: it knows the market's candles and compares stored rows and ledgers with them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime

from attrs import define, field

from klineagent.core.kline import Kline
from klineagent.proof.plan import ProofFailed
from klineagent.series.ledger import Ledger
from klineagent.series.marks import Absent
from klineagent.storage.memory.store import MemoryStore
from klineagent.twin.interval import SECOND_MS, TwinInterval
from klineagent.twin.market.aggregation import Aggregator
from klineagent.twin.market.candle import Candle
from klineagent.twin.market.market import Listing, Market


@define(eq=False, kw_only=True)
class Oracle:
    """Compares rows of one venue with its market when they are stored, whole series in the end."""

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
        """A digest of all stored rows, in order."""
        return self._history.hexdigest()[:16]

    def examine(self, klines: Iterable[Kline]) -> None:
        """Compare rows that are about to be stored.

        Raises:
            ProofFailed: a closed row differs from what was traded.
        """
        for kline in klines:
            self._history.update(b"%d %d" % (kline.open_time, kline.version))
            if kline.is_closed:
                self._compare(kline)

    def exists(self, symbol: str, interval: TwinInterval, open_ms: int) -> bool:
        """Whether the market has this candle."""
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
        """Check every candle of a series that closed before `end_ms`.

        It begins `history` candles before `begin_ms`. As for readers of the table, the row with the
        highest version counts. Candles `set_aside` are dead letters.

        Raises:
            ProofFailed: a candle is missing without a reason, wrong, or made up, or the ledger
                contradicts the store.
        """
        interval = TwinInterval(ledger.interval.value)
        open_ms = self._first_open(symbol, interval, begin_ms, history)
        end_ms = interval.open_at(end_ms)
        while open_ms < end_ms:
            stored = store.klines.get((self.venue_name, symbol, interval.value, open_ms))
            fault = self._contradiction(ledger, open_ms, stored)
            truth = self._aggregator.whole(symbol, interval, open_ms)
            if stored is not None and stored.is_closed:
                self._compare(stored)
                self.checked += 1
            elif truth is None:
                self.absent["no such candle"] += 1
                is_covered = ledger.has_begun and ledger.first_ms <= open_ms
                if is_covered and open_ms not in ledger.absences:
                    fault = "does not exist, and the ledger does not know"
            elif (symbol, interval.value, open_ms) in set_aside:
                self.absent["set aside"] += 1
            else:
                fault = "is missing"
            if fault:
                raise ProofFailed(
                    f"{name_of(symbol, interval, open_ms)} {fault}; the ledger {describe(ledger)}"
                )
            open_ms = interval.next_open(open_ms)

    def _first_open(self, symbol: str, interval: TwinInterval, begin_ms: int, history: int) -> int:
        """Open time of the first candle in a series' history; not before its listing."""
        listed_ms = interval.open_at(self._listings[symbol].onboard_ms)
        open_ms = interval.open_at(begin_ms)
        for _ in range(history):
            if open_ms <= listed_ms:
                break
            open_ms = interval.open_at(open_ms - 1)
        return open_ms

    def _contradiction(self, ledger: Ledger, open_ms: int, stored: Kline | None) -> str:
        """How the ledger contradicts a stored closed candle; empty if it does not."""
        if stored is None or not stored.is_closed:
            return ""
        if open_ms in ledger.gaps:
            return "is stored, but the ledger calls it missing"
        # After a refused row the store may have accepted another state of the candle.
        absence = ledger.absences.at(open_ms)
        if absence is None or absence.mark.reason is Absent.REFUSED:
            return ""
        return "is stored, but the ledger calls it absent"

    def _compare(self, kline: Kline) -> None:
        interval = TwinInterval(kline.interval)
        is_on_grid = interval.open_at(kline.open_time) == kline.open_time
        # `Aggregator` knows times on the grid only.
        truth = (
            self._aggregator.whole(kline.symbol, interval, kline.open_time) if is_on_grid else None
        )
        if truth is None:
            raise ProofFailed(f"{name_of(kline.symbol, interval, kline.open_time)} was made up")
        expected = _fields(truth, self._listings[kline.symbol])
        actual: tuple[float, ...] = kline[5:14]
        closes_ms = interval.close_of(kline.open_time)
        if (kline.close_time, *actual) != (closes_ms, *expected):
            raise ProofFailed(
                f"{name_of(kline.symbol, interval, kline.open_time)} is wrong:"
                f" {actual} instead of {expected}"
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
    """Name a candle for an error message."""
    return f"{symbol} {interval} of {_time(open_ms)}"


def _time(time_ms: int) -> str:
    return f"{datetime.fromtimestamp(time_ms / SECOND_MS, UTC):%Y-%m-%d %H:%M:%S}"


def describe(ledger: Ledger) -> str:
    """Describe a ledger for an error message."""
    gaps = [(_time(first), _time(end), mark.urgency.name) for first, end, mark in ledger.gaps]
    absences = [
        (_time(first), _time(end), mark.reason.name) for first, end, mark in ledger.absences
    ]
    return (
        f"goes from {_time(ledger.first_ms)} to {_time(ledger.horizon_ms)}"
        f" with gaps {gaps} and absences {absences}"
    )
