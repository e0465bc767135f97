"""The exchange's venues as data: where they are, what they offer, what they allow."""

from __future__ import annotations

from attrs import evolve, field, frozen

from klineagent.kline import Interval

# The limits below are the client's: a margin under what the venue enforces, never over it.
STREAMS_PER_FEED = 1_000  # enforced: 1024, the 1025th closes the connection
NAMES_PER_REQUEST = 200
DIALS_PER_WINDOW = 300  # documented for spot, assumed for futures
DIAL_WINDOW_S = 300.0

FUTURES_INTERVALS = frozenset(Interval) - {Interval.S1}


@frozen(kw_only=True)
class Venue:
    """One Binance market: addresses, names of things, limits."""

    name: str
    ws_url: str
    """The prefix before `/ws` and `/stream`."""
    rest_url: str
    rest_prefix: str
    intervals: frozenset[Interval]
    requests_per_second: float
    """SUBSCRIBE and UNSUBSCRIBE messages a connection may send."""
    status_field: str = "status"
    """What exchangeInfo calls a symbol's trading status."""
    trading_statuses: frozenset[str] = field(default=frozenset({"TRADING"}))

    @property
    def exchange_info_path(self) -> str:
        """Path of the symbol list; about 1 MB, compressed to 50 KB on the wire."""
        return f"{self.rest_prefix}/exchangeInfo"


USDM = Venue(
    name="usdm",
    # Klines live under /market since 2026-04-23; the bare host acknowledges and stays silent.
    ws_url="wss://fstream.binance.com/market",
    rest_url="https://fapi.binance.com",
    rest_prefix="/fapi/v1",
    intervals=FUTURES_INTERVALS,
    requests_per_second=5,
)

COINM = evolve(
    USDM,
    name="coinm",
    ws_url="wss://dstream.binance.com",
    rest_url="https://dapi.binance.com",
    rest_prefix="/dapi/v1",
    status_field="contractStatus",
)

SPOT = Venue(
    name="spot",
    ws_url="wss://stream.binance.com:9443",
    rest_url="https://api.binance.com",
    rest_prefix="/api/v3",
    intervals=frozenset(Interval),
    # Five a second are allowed, and pongs count.
    requests_per_second=3,
)

VENUES = {venue.name: venue for venue in (USDM, COINM, SPOT)}
