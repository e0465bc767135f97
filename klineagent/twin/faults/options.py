"""Faults as command-line options: parsing them, and injecting them."""

from __future__ import annotations

import math
import random
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager
from typing import NoReturn

import trio
from attrs import frozen

from klineagent.core.errors import ConfigError
from klineagent.core.suggestions import suggest
from klineagent.twin.archive.faults import kinds
from klineagent.twin.exchange import Exchange
from klineagent.twin.faults.faults import ExchangeFaults
from klineagent.twin.faults.lies import Lies
from klineagent.twin.interval import DAY_MS, MINUTE_MS, SECOND_MS
from klineagent.twin.market.eventful import EventfulMarket
from klineagent.twin.venues import VENUE_NAMES

_Block = AbstractContextManager[None]
# A recurring fault lasts this part of the mean time between two of its kind.
_LASTS = 1 / 10


def _halting(exchange: Exchange, dice: random.Random) -> _Block:
    """Halt one symbol in the way of the venue."""
    market = exchange.market
    if not isinstance(market, EventfulMarket):
        raise TypeError("only an EventfulMarket can be halted")
    symbol = dice.choice(market.listings).symbol
    return market.halting([symbol], flat=exchange.venue.name != "spot")


def _halt_past(exchange: Exchange, share: float) -> None:
    """Let each symbol have halted, for an hour to a day and a half, on that share of its days."""
    market = exchange.market
    if not isinstance(market, EventfulMarket):
        raise TypeError("only an EventfulMarket can be halted")
    now_ms = exchange.clock.now_ms()
    for listing in market.listings:
        dice = random.Random(f"{exchange.seed}/past-halts/{listing.symbol}")  # noqa: S311 - no secret
        for day_ms in range(listing.onboard_ms, min(now_ms, listing.delivery_ms), DAY_MS):
            if dice.random() < share:
                since_ms = day_ms + dice.randrange(DAY_MS) // MINUTE_MS * MINUTE_MS
                until_ms = min(since_ms + dice.randint(60, 36 * 60) * MINUTE_MS, now_ms)
                if since_ms < until_ms:
                    flat = exchange.venue.name != "spot"
                    market.halt_past(listing.symbol, since_ms, until_ms, flat=flat)


_SHARES: Mapping[str, Callable[[ExchangeFaults, float], _Block]] = {
    "losing-closings": ExchangeFaults.losing_closings,
    "delaying-closings": ExchangeFaults.delaying_closings,
    "doubling-closings": ExchangeFaults.doubling_closings,
    "reordering": ExchangeFaults.reordering,
    "early-opens": ExchangeFaults.early_opens,
    "garbling": ExchangeFaults.garbling,
    "truncating": ExchangeFaults.truncating,
    "fragmenting": ExchangeFaults.fragmenting,
    "silent-acks": ExchangeFaults.silent_acks,
    "failing-rest": ExchangeFaults.failing_rest,
}
_PAST = "past-halts"
_LIES: Mapping[str, Callable[[Lies, float], _Block]] = {
    "late-forming": Lies.late_forming,
    "repeated-closings": Lies.repeated_closings,
    "wrong-times": Lies.wrong_times,
    "crossed-streams": Lies.crossed_streams,
    "contradictions": Lies.contradictions,
    "wrong-server-time": Lies.wrong_server_time,
    "stale-klines": Lies.stale_klines,
    "empty-klines": Lies.empty_klines,
    "missing-klines": Lies.missing_klines,
    "off-grid-klines": Lies.off_grid_klines,
    "odd-rows": Lies.odd_rows,
    "odd-symbols": Lies.odd_symbols,
    "short-lists": Lies.short_lists,
}
_LASTING: Mapping[str, Callable[[ExchangeFaults, float], _Block]] = {
    "quiet-empties": lambda faults, _: faults.quiet_empties(),
    "hiding-weights": lambda faults, _: faults.hiding_weights(),
    "lagging-rest": lambda faults, seconds: faults.lagging_rest(round(seconds * SECOND_MS)),
    "lying-weights": ExchangeFaults.lying_weights,
}
_RECURRING: Mapping[str, Callable[[Exchange, random.Random], _Block]] = {
    "offline": lambda exchange, _: exchange.faults.offline(),
    "stalling": lambda exchange, _: exchange.faults.stalling(),
    "hanging-rest": lambda exchange, _: exchange.faults.hanging_rest(),
    "hanging-klines": lambda exchange, _: exchange.faults.hanging_rest("/klines"),
    "frozen-klines": lambda exchange, _: exchange.lies.frozen_klines(),
    "refusing-rest": lambda exchange, _: exchange.faults.refusing_rest(),
    "banning-rest": lambda exchange, _: exchange.faults.refusing_rest(418),
    "halting": _halting,
}
_SUDDEN: Mapping[str, Callable[[ExchangeFaults], None]] = {
    "reset": ExchangeFaults.reset_connections,
    "close": ExchangeFaults.close_connections,
    "shutdown": ExchangeFaults.announce_shutdown,
}
_PLAIN = ("quiet-empties", "hiding-weights")
_NEEDED = {
    **dict.fromkeys(("lagging-rest", *_RECURRING, *_SUDDEN), "seconds"),
    kinds.SLOW_BODIES: "bytes a second",
}
_WITH_SHARE = (*_SHARES, *_LIES, _PAST, *kinds.SHARES)

FAULT_HELP = (
    "A fault to inject; may be given more than once. "
    f"With a share from 0 to 1 (default 1): {', '.join(_WITH_SHARE)}. "
    "Every S seconds of exchange time on average, momentary: "
    f"{', '.join(_SUDDEN)}; lasting a tenth of that time: {', '.join(_RECURRING)}. "
    f"With a number of bytes a second: {kinds.SLOW_BODIES}. "
    "Always on: quiet-empties, hiding-weights, lagging-rest=SECONDS, lying-weights=FACTOR. "
    "After VENUE: it strikes that venue only, as in spot:offline=3600."
)


@frozen
class FaultOption:
    """A kind of fault and its number: share, seconds or factor, depending on the kind."""

    kind: str
    value: float
    venue: str | None = None
    """The only venue that it strikes; None for all."""


def parse_fault(text: str, venues: Collection[str] = VENUE_NAMES) -> FaultOption:
    """Parse `KIND` or `KIND=VALUE`, for one of `venues` alone after `VENUE:`.

    Raises:
        ConfigError: there is no such kind or venue, or the value is not valid for the kind.
    """
    venue, colon, fault = text.rpartition(":")
    if not colon:
        return FaultOption(*_read_fault(fault))
    if venue not in venues:
        raise ConfigError(f"--fault: no venue {venue!r} here; there are {', '.join(venues)}")
    return FaultOption(*_read_fault(fault), venue)


def _read_fault(text: str) -> tuple[str, float]:
    """Read a kind and its number."""
    kind, _, number = text.partition("=")
    known = (*_WITH_SHARE, *_LASTING, *_RECURRING, *_SUDDEN, kinds.SLOW_BODIES)
    if kind not in known:
        question = suggest(kind, known)
        there_are = f"{question} There are" if question else "there are"
        raise ConfigError(f"--fault: no kind {kind!r}; {there_are} {', '.join(known)}")
    has_share = kind in _WITH_SHARE
    if not number:
        if unit := _NEEDED.get(kind):
            raise ConfigError(f"--fault: {kind} needs a number of {unit}, as in {kind}=300")
        return kind, 1.0 if has_share else 0.0
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if has_share and not 0 <= value <= 1:
        raise ConfigError(f"--fault: {kind} takes a share from 0 to 1, not {number!r}")
    if (unit := _NEEDED.get(kind)) and not 0 < value < math.inf:
        raise ConfigError(f"--fault: {kind} takes a positive number of {unit}, not {number!r}")
    if kind in _PLAIN:
        raise ConfigError(f"--fault: {kind} takes no number")
    if not 0 <= value < math.inf:
        raise ConfigError(f"--fault: {kind} takes a number from 0 on, not {number!r}")
    return kind, value


@asynccontextmanager
async def open_faults(exchange: Exchange, options: Sequence[FaultOption]) -> AsyncIterator[None]:
    """Inject the faults of `options` that strike `exchange` until the block ends.

    Raises:
        ConfigError: the exchange sends at a fixed rate, where event faults are not supported.
    """
    async with trio.open_nursery() as nursery:
        with ExitStack() as blocks:
            for number, option in enumerate(options):
                if option.venue not in {None, exchange.venue.name}:
                    continue
                if option.kind in kinds.SHARES or option.kind == kinds.SLOW_BODIES:
                    continue  # The archive of all exchanges has it.
                lasting = _SHARES.get(option.kind) or _LASTING.get(option.kind)
                if lasting is not None:
                    blocks.enter_context(lasting(exchange.faults, option.value))
                elif option.kind == _PAST:
                    _halt_past(exchange, option.value)
                elif option.kind in _LIES:
                    blocks.enter_context(_LIES[option.kind](exchange.lies, option.value))
                else:
                    seed = f"{exchange.seed}/{number}/{option.kind}"
                    dice = random.Random(seed)  # noqa: S311 - seeded, no secret
                    nursery.start_soon(_recur, exchange, option, dice)
            if exchange.firehose is not None and exchange.faults.disturb_events:
                raise ConfigError("--fault: faults of events cannot be combined with --rate")
            yield
        nursery.cancel_scope.cancel(reason="no more faults")


async def _recur(exchange: Exchange, option: FaultOption, dice: random.Random) -> NoReturn:
    """Inject a recurring fault at random times."""
    mean_ms = option.value * SECOND_MS
    while True:
        await _pass(exchange, dice.expovariate(1) * mean_ms)
        if option.kind in _SUDDEN:
            _SUDDEN[option.kind](exchange.faults)
        else:
            with _RECURRING[option.kind](exchange, dice):
                await _pass(exchange, mean_ms * _LASTS)


async def _pass(exchange: Exchange, time_ms: float) -> None:
    await exchange.clock.sleep_until(exchange.clock.now_ms() + max(1, round(time_ms)))
