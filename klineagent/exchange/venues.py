"""The exchange's venues as data: addresses, intervals, limits."""

from __future__ import annotations

from attrs import evolve, field, frozen

from klineagent.core.errors import InvalidRequest
from klineagent.core.interval import DAY_MS, Interval

# The limits below are the client's: a margin under what the venue enforces, never over it.
STREAMS_PER_CONNECTION = 1_000  # enforced: 1024, the 1025th closes the connection
NAMES_PER_REQUEST = 200
DIALS_PER_WINDOW = 300  # documented for spot, assumed for futures
DIAL_WINDOW_S = 300.0
# Enforced at 24 h. Each connection draws its own age, so that they are not all replaced at once.
CONNECTION_AGES_S = (20 * 3600.0, 23 * 3600.0)

FUTURES_INTERVALS = frozenset(Interval) - {Interval.S1}


@frozen(kw_only=True)
class Venue:
    """One Binance market: addresses, names of things, limits."""

    name: str
    ws_url: str
    """The URL before `/ws` and `/stream`."""
    rest_url: str
    rest_prefix: str
    intervals: frozenset[Interval]
    has_every_candle: bool
    """Whether a listed symbol has a candle in every interval, even in one without trades."""
    kline_places: int | None = None
    """The decimals of all numbers in klines; None where each symbol has its own. Observed on real
    rows, whose prices are not written to the tick."""
    quote_places: int | None = None
    """The decimals of quote volumes, on COIN-M of base volumes; None for those of price and volume
    together."""
    perpetual_suffix: str | None = ""
    """What the symbol of a perpetual contract has more than its pair; None without contracts."""
    requests_per_second: float
    """The number of SUBSCRIBE and UNSUBSCRIBE messages that a connection may send per second."""
    status_field: str = "status"
    """The field of exchangeInfo that holds a symbol's trading status."""
    trading_statuses: frozenset[str] = field(default=frozenset({"TRADING"}))
    unlisted_statuses: frozenset[str]
    """The statuses before a listing and after a delisting; with others a symbol trades or is
    halted."""

    weight_pool: str
    """What the exchange counts an address's weight under; venues may share one."""
    weight_per_minute: int
    """The request weight that an address may use in a clock minute, all venues of the pool."""
    exchange_info_weight: int
    klines_weights: tuple[tuple[int, int], ...]
    """(largest limit, weight) of klines requests, ascending."""
    klines_page: int
    """The row limit of a klines request that gets the most rows for its weight."""
    klines_window_ms: int | None = None
    """The longest time range of one klines request; None for no bound."""

    @property
    def usual_intervals(self) -> frozenset[Interval]:
        """The intervals that "all" stands for: 1s is 96 % of all rows, so it must be named."""
        return self.intervals - {Interval.S1}

    def klines_weight(self, limit: int) -> int:
        """Return the weight of a klines request for `limit` rows."""
        return next(weight for largest, weight in self.klines_weights if limit <= largest)

    @property
    def klines_path(self) -> str:
        """The path of candles."""
        return f"{self.rest_prefix}/klines"

    @property
    def time_path(self) -> str:
        """The path of the exchange's time; its weight is 1."""
        return f"{self.rest_prefix}/time"

    @property
    def exchange_info_path(self) -> str:
        """The path of the symbol list: about 1 MB, compressed to 50 KB on the wire."""
        return f"{self.rest_prefix}/exchangeInfo"


USDM = Venue(
    name="usdm",
    # Klines live under /market since 2026-04-23; the bare host acknowledges and stays silent.
    ws_url="wss://fstream.binance.com/market",
    rest_url="https://fapi.binance.com",
    rest_prefix="/fapi/v1",
    intervals=FUTURES_INTERVALS,
    has_every_candle=True,
    requests_per_second=5,
    unlisted_statuses=frozenset(
        {"PENDING_TRADING", "SETTLING", "DELIVERING", "DELIVERED", "CLOSE", "DELISTING"}
    ),
    # One with COIN-M's since 2026-06.
    weight_pool="futures",
    weight_per_minute=2_400,
    exchange_info_weight=1,
    # The documented bands; measured, each is one row wider.
    klines_weights=((99, 1), (499, 2), (1_000, 5), (1_500, 10)),
    klines_page=499,
)

COINM = evolve(
    USDM,
    name="coinm",
    ws_url="wss://dstream.binance.com",
    rest_url="https://dapi.binance.com",
    rest_prefix="/dapi/v1",
    perpetual_suffix="_PERP",
    status_field="contractStatus",
    quote_places=8,
    klines_window_ms=200 * DAY_MS,
)

SPOT = Venue(
    name="spot",
    ws_url="wss://stream.binance.com:9443",
    rest_url="https://api.binance.com",
    rest_prefix="/api/v3",
    intervals=frozenset(Interval),
    kline_places=8,
    perpetual_suffix=None,
    quote_places=8,
    # There are no candles while trading is halted.
    has_every_candle=False,
    # Five messages a second are allowed, pongs included.
    requests_per_second=3,
    # As far as is known a halt has this status, too: such a symbol is listed again, and no candle
    # is lost.
    unlisted_statuses=frozenset({"BREAK"}),
    weight_pool="spot",
    weight_per_minute=6_000,
    exchange_info_weight=20,
    klines_weights=((1_000, 2),),
    klines_page=1_000,
)

VENUES = {venue.name: venue for venue in (USDM, COINM, SPOT)}


def split_name(name: str, default: Venue, *, beside: str = "") -> tuple[Venue, str]:
    """Split `venue:SYMBOL`, as users write it.

    A bare symbol is one of the venue `beside` it, if that is not empty, else of `default`.

    Raises:
        ValueError: there is no such venue, or the two differ.
    """
    alone = venue_named(beside) if beside else None
    venue_name, colon, symbol = name.rpartition(":")
    venue = venue_named(venue_name) if colon else alone or default
    if alone not in {None, venue}:
        raise ValueError(f"{name.strip()} is not of the venue beside it, {beside}")
    return venue, symbol.strip().upper()


def symbol_named(name: str, default: Venue, *, beside: str, field: str) -> tuple[Venue, str]:
    """Read which symbol a request means, like `split_name`.

    Raises:
        InvalidRequest: the name is empty, or names no venue, or another one than `beside`.
    """
    try:
        venue, symbol = split_name(name, default, beside=beside)
    except ValueError as error:
        raise InvalidRequest(f"{field}: {error}") from error
    if not symbol:
        raise InvalidRequest(f"{field}: the name is empty")
    return venue, symbol


def venue_named(name: str) -> Venue:
    """Return the venue that a user names.

    Raises:
        ValueError: there is no such venue.
    """
    if (venue := VENUES.get(name.strip().lower())) is None:
        raise ValueError(f"{name!r} is no venue; use one of {', '.join(VENUES)}")
    return venue


def how_to_add(venue: Venue, symbol: str, interval: str, default: Venue) -> str:
    """Write the command with which a user adds a series."""
    return f"klineagent add {full_name(venue, symbol, default)} --intervals {interval}"


def full_name(venue: Venue, symbol: str, default: Venue) -> str:
    """Write a symbol so that `split_name` reads it: bare if its venue is `default`."""
    return symbol if venue == default else f"{venue.name}:{symbol}"
