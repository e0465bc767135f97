"""The behaviour of each venue's server, as data: routes, intervals, limits, pings.

Deliberately not taken from `klineagent.exchange`: a wrong table there must not be confirmed by the
same error here. The numbers are measured or documented limits, not those a client should keep.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import evolve, frozen

from klineagent.core.errors import ConfigError
from klineagent.twin.interval import DAY_MS, TwinInterval

STREAMS_PER_CONNECTION = 1_024
TOO_MANY_REQUESTS = 429
BANNED = 418
"""The exchange's own misuse of a status, for an address that ignored 429."""

_FUTURES_INTERVALS = frozenset(TwinInterval) - {TwinInterval.S1}


@frozen(kw_only=True)
class VenueRules:
    """The behaviour of one venue's server."""

    name: str
    kline_routes: Mapping[str, bool]
    """Prefixes of `/ws` and `/stream`, and whether klines are delivered there."""
    rest_prefix: str
    intervals: frozenset[TwinInterval]
    update_every_ms: int
    """Shortest time between two forming updates of a stream."""
    request_burst: int
    """Requests that may be sent back to back; one more closes the connection."""
    requests_per_second: float
    controls_count: bool
    """Whether pings and pongs count as requests."""
    ping_every_s: float
    pong_within_s: float
    any_pong_keeps_alive: bool
    """Whether a pong is accepted with another payload than the ping's."""
    lifetime_s: float = 86_400
    """Age at which a connection is closed; the real close code is unknown, here it is 1000."""
    announces_shutdown: bool
    """Whether the server sends `serverShutdown` before it stops."""
    messages_per_second: int
    """Kline events that all its streams have at worst, rounded; what venues share a rate by."""
    weight_pool: str
    """The pool of request weight; venues of one pool share `weight_per_minute`."""
    weight_per_minute: int
    exchange_info_weight: int
    klines_weights: tuple[tuple[int, int], ...]
    """(largest limit, weight), ascending; the last weight holds for any larger limit."""
    klines_default_weight: int
    """Weight of a klines request without a limit."""
    depth_weights: tuple[tuple[int, int], ...]
    """(largest limit, weight) of an order book, ascending; the last is the largest there is."""
    depth_default_limit: int
    depth_limits: frozenset[int] | None = None
    """The limits that are accepted; None: any up to the largest, and a larger one is cut."""
    ticker_weights: Mapping[str, tuple[int, int]]
    """By endpoint, the weight of a ticker of one symbol, and of all."""
    klines_max_limit: int
    cuts_klines_limit: bool = False
    """Whether a larger limit counts as the largest one; it is refused otherwise."""
    klines_window_ms: int | None = None
    """Longest time range of a klines request, of which the newest rows are sent; None: any."""
    too_many_requests: str
    """Text of the 429 answer."""
    banned: str
    """Text of the 418 answer; `{}` is the end of the ban in milliseconds."""
    may_skip_candles: bool = False
    """Whether a halt leaves intervals without a candle, instead of flat candles."""
    pending_status: str = "PENDING_TRADING"
    """Status of a symbol that does not trade yet."""
    delisted_status: str = "SETTLING"
    """Status of a delisted symbol."""

    def klines_weight(self, limit: int | None) -> int:
        """Weight of a klines request, whether it is answered or refused."""
        if limit is None:
            return self.klines_default_weight
        return _weight_up_to(limit, self.klines_weights)

    def depth_weight(self, limit: int | None) -> int:
        """Weight of a request of an order book."""
        return _weight_up_to(limit or self.depth_default_limit, self.depth_weights)


def _weight_up_to(limit: int, weights: tuple[tuple[int, int], ...]) -> int:
    return next((weight for largest, weight in weights if limit <= largest), weights[-1][1])


_FUTURES_WEIGHTS = ((100, 1), (500, 2), (1_000, 5), (1_500, 10))
_ADVICE = "Please use the websocket for live updates to avoid"

USDM = VenueRules(
    name="usdm",
    # Only /market carries klines since 2026-04-23; the others acknowledge and stay silent.
    kline_routes={"/market": True, "/public": False, "/private": False, "": False},
    rest_prefix="/fapi/v1",
    intervals=_FUTURES_INTERVALS,
    update_every_ms=250,
    request_burst=15,
    requests_per_second=10,
    controls_count=False,
    ping_every_s=180,
    pong_within_s=600,
    any_pong_keeps_alive=True,
    announces_shutdown=False,
    messages_per_second=47_340,
    weight_pool="futures",
    weight_per_minute=2_400,
    exchange_info_weight=1,
    klines_weights=_FUTURES_WEIGHTS,
    klines_default_weight=5,
    depth_weights=((50, 2), (100, 5), (500, 10), (1_000, 20)),
    depth_default_limit=500,
    depth_limits=frozenset({5, 10, 20, 50, 100, 500, 1_000}),
    ticker_weights={
        "/ticker/24hr": (1, 40),
        "/ticker/price": (1, 2),
        "/ticker/bookTicker": (2, 5),
    },
    klines_max_limit=1_500,
    too_many_requests=(
        f"Too many requests; current limit is 2400 requests per minute. {_ADVICE} polling the API."
    ),
    banned=f"Way too many requests; IP(127.0.0.1) banned until {{}}. {_ADVICE} bans.",
)

# On the architecture of USD-M since 2026-06, and in its weight pool, but with its own host and a
# longest time range.
COINM = evolve(
    USDM,
    name="coinm",
    kline_routes={"": True},
    rest_prefix="/dapi/v1",
    messages_per_second=3_600,
    klines_window_ms=200 * DAY_MS,
)

SPOT = VenueRules(
    name="spot",
    kline_routes={"": True},
    rest_prefix="/api/v3",
    intervals=frozenset(TwinInterval),
    update_every_ms=2_000,
    request_burst=5,
    requests_per_second=5,
    controls_count=True,
    ping_every_s=20,
    pong_within_s=60,
    any_pong_keeps_alive=False,
    announces_shutdown=True,
    messages_per_second=12_750,
    weight_pool="spot",
    weight_per_minute=6_000,
    exchange_info_weight=20,
    klines_weights=((1_000, 2),),
    klines_default_weight=2,
    depth_weights=((100, 5), (500, 25), (1_000, 50), (5_000, 250)),
    depth_default_limit=100,
    ticker_weights={
        "/ticker/24hr": (2, 80),
        "/ticker/price": (2, 4),
        "/ticker/bookTicker": (2, 4),
    },
    klines_max_limit=1_000,
    cuts_klines_limit=True,
    too_many_requests=(
        "Too much request weight used; current limit is 6000 request weight per 1 MINUTE. "
        f"{_ADVICE} polling the API."
    ),
    banned=f"Way too much request weight used; IP banned until {{}}. {_ADVICE} bans.",
    may_skip_candles=True,
    # The documented status that fits best; that it is shown before a listing is an assumption.
    pending_status="BREAK",
    delisted_status="BREAK",
)

_VENUES = {venue.name: venue for venue in (USDM, COINM, SPOT)}
VENUE_NAMES = tuple(_VENUES)


def venue_named(name: str) -> VenueRules:
    """Return the rules of the venue called `name`.

    Raises:
        ConfigError: there is no such venue.
    """
    try:
        return _VENUES[name]
    except KeyError:
        raise ConfigError(f"no venue {name!r}; there are {', '.join(_VENUES)}") from None
