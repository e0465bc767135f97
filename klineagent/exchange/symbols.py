"""The venue's list of symbols, kept fresh: which may be subscribed.

The exchange acknowledges a subscription to a symbol it has never heard of and stays silent, so
symbols are checked here before anything is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

import structlog
import trio
from attrs import define, field, frozen

from klineagent.core.errors import ExchangeError, InvalidRequest, NotTrading
from klineagent.core.retry import Backoff, Burst, Trouble
from klineagent.exchange.rest import RestClient
from klineagent.exchange.rest_answers import SymbolInfo, SymbolList

# One request of weight 1 (spot: 20 of 6000) a minute; a new listing is known a minute later.
# An exchange that is back is to be noticed soon; limits are heeded elsewhere.
RETRY_WITHIN_S = 5.0
REFRESH_EVERY_S = 60.0
# A list may be cut short. What so many in a row do not name is no more; what is delisted is named
# for months. A list that lacks more than half says nothing of what it lacks.
GONE_AFTER_LISTS = 3

log = structlog.get_logger()


@frozen
class TradingHalt:
    """Between which lists, by the exchange's time, a symbol did not trade."""

    since_ms: int
    """Of the last that said it did; 0 if none has."""
    until_ms: int
    """Of the first that said so again, or else of the newest."""


@define(eq=False)
class SymbolBook:
    """The symbols of a venue as of the last minute.

    What is told of a symbol is believed; that nothing is told of one, only after a few lists.
    """

    _rest: RestClient
    _symbols: dict[str, SymbolInfo] = field(factory=dict, init=False)
    _lacking: dict[str, int] = field(factory=dict, init=False)
    """Symbols that the last lists did not name, and how many lists that were."""
    _halts: dict[str, TradingHalt] = field(factory=dict, init=False)
    """The last of each symbol that does not trade, or did not while we looked."""
    _asked_ms: int = field(default=0, init=False)
    """When the last list was asked for."""
    _cuts: Burst = field(factory=lambda: Burst("symbols_lacking"), init=False)
    _loaded: trio.Event = field(factory=trio.Event, init=False)
    _refreshed: trio.Event = field(factory=trio.Event, init=False)
    obstacle: str = field(default="", init=False)
    """Why the last try to load them failed, if it did."""

    @property
    def is_loaded(self) -> bool:
        """Whether the exchange has told its symbols at all."""
        return self._loaded.is_set()

    @property
    def listings(self) -> Mapping[str, SymbolInfo] | None:
        """All symbols by name, trading or not; None until they were told once."""
        return self._symbols if self._loaded.is_set() else None

    async def loaded(self) -> None:
        """Wait until the exchange has told its symbols once; the caller sets the deadline."""
        await self._loaded.wait()

    async def refreshed(self) -> None:
        """Wait until it tells them the next time."""
        await self._refreshed.wait()

    async def check(self, symbol: str) -> None:
        """Return if `symbol` trades; waits for the exchange, the caller sets the deadline.

        Raises:
            InvalidRequest: the venue does not know `symbol`, or (`NotTrading`) it does not trade.
        """
        await self._loaded.wait()
        venue = self._rest.venue.name
        if (info := self._symbols.get(symbol)) is None:
            raise InvalidRequest(f"symbol: {symbol} does not exist on {venue}")
        if not info.is_trading:
            raise NotTrading(f"symbol: {symbol} does not trade on {venue} ({info.status})")

    async def until_trading(self, symbol: str) -> None:
        """Wait until `symbol` trades, through maintenance or a halt, however long that takes.

        Raises:
            InvalidRequest: the venue does not know `symbol`.
        """
        told = False
        while True:
            try:
                await self.check(symbol)
            except NotTrading as halt:
                if not told:
                    log.warning("symbol_not_trading", symbol=symbol, reason=str(halt))
                told = True
                await self._refreshed.wait()
            else:
                return

    def trades(self, symbol: str) -> bool:
        """Whether `symbol` trades, as far as is known."""
        info = self._symbols.get(symbol)
        return info is None or info.is_trading

    def halt(self, symbol: str) -> TradingHalt | None:
        """When `symbol` last did not trade, if that is known; it may last."""
        return self._halts.get(symbol)

    def listed_ms(self, symbol: str) -> int:
        """Since when there are candles of `symbol`; 0 where nobody says."""
        info = self._symbols.get(symbol)
        return 0 if info is None else info.onboard_ms

    def _take(self, told: SymbolList, asked_ms: int) -> None:
        """Believe what a list says, and not at once what it does not."""
        before = self._symbols
        lacking = self._symbols.keys() - told.symbols.keys() - told.odd_names
        counts_not = 2 * len(told.symbols) < len(self._symbols)
        lists = {name: self._lacking.get(name, 0) + (not counts_not) for name in lacking}
        self._lacking = {name: count for name, count in lists.items() if count < GONE_AFTER_LISTS}
        if self._lacking:
            self._cuts.happens(min(self._lacking), len(self._lacking))
        kept = self._lacking.keys() | (told.odd_names & self._symbols.keys())
        self._symbols = {name: self._symbols[name] for name in kept} | told.symbols
        self._note_halts(before)
        self._asked_ms = asked_ms

    def _note_halts(self, before: Mapping[str, SymbolInfo]) -> None:
        """See which symbols did not trade by the list `before`, or do not by now."""
        now_ms = self._rest.time.now_ms()
        for name, info in self._symbols.items():
            did_trade = before.get(name, info).is_trading
            if not (did_trade and info.is_trading):
                earlier = (
                    TradingHalt(self._asked_ms, now_ms) if did_trade else self._halts.get(name)
                )
                since_ms = 0 if earlier is None else earlier.since_ms
                self._halts[name] = TradingHalt(since_ms, now_ms)

    async def keep_fresh(self) -> NoReturn:
        """Ask the exchange for its symbols, now and every minute."""
        trouble = Trouble("symbols_unavailable", "symbols_available")
        backoff = Backoff(first_s=1, most_s=RETRY_WITHIN_S)
        while True:
            asked_ms = self._rest.time.now_ms()
            try:
                self._take(await self._rest.exchange_info(), asked_ms)
            except ExchangeError as error:
                trouble.lasts(error)
                self.obstacle = str(error)
                wait_s = backoff.after()
            else:
                trouble.over()
                self.obstacle = ""
                if not self._loaded.is_set():
                    log.info("symbols_loaded", symbols=len(self._symbols))
                backoff = Backoff(first_s=1, most_s=RETRY_WITHIN_S)
                wait_s = REFRESH_EVERY_S
                self._loaded.set()
                self._refreshed.set()
                self._refreshed = trio.Event()
            await trio.sleep(wait_s)
