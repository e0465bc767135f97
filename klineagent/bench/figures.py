"""The figures of a measurement. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any

import msgspec
from msgspec import Struct

MILLION = 1_000_000


class Spread(Struct, frozen=True):
    """Count, percentiles and maximum of some values."""

    count: int
    p50: float
    p99: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """The spread of `values`; None without values."""
        if not values:
            return None
        ranked = sorted(values)

        def percentile(share: float) -> float:
            return round(ranked[ceil(share * len(ranked)) - 1], 3)

        return cls(len(ranked), percentile(0.5), percentile(0.99), round(ranked[-1], 3))


class AgentFigures(Struct, frozen=True, kw_only=True):
    """What was measured of an agent in one window. Memory is in bytes."""

    seconds: float
    streams: int
    messages: int
    """Klines of subscribed streams; not all of them need have been parsed in full."""
    cpu_s: float
    """CPU time of all threads of the agent's process."""
    rss: int
    peak_rss: int
    """Since the process began."""
    inserts: int
    rows: int
    closed: int
    """Candles that closed in the window and were stored in it."""
    found: int
    """How many of these a query finds in the store afterwards."""
    close_to_stored_ms: Spread | None
    """From the close of a candle to the return of its insert."""
    lag_ms: Spread | None
    """How late a task runs that is due every 10 ms."""
    newest_age_ms: int | None
    """Age of the newest row of the last insert when that insert returned."""
    insert_age_ms: Spread | None
    """The same for every insert in the window."""
    bad_frames: int
    healed: int
    """Missing candles that were fetched over REST."""
    missing: int
    """Candles known to be missing at the end."""
    warnings: dict[str, int]
    """How often the agent logged each warning and error since its start, by event."""
    ping_ms: Spread | None = None
    """Response times of `/ping` on the status server."""
    twin_cpu_s: float | None = None
    last_read_at: float | None = None
    """When the last query for a reader ended, in seconds since the epoch; None without one."""

    @property
    def messages_per_s(self) -> float:
        """Messages received a second."""
        return self.messages / self.seconds

    @property
    def cpu_us_per_message(self) -> float | None:
        """CPU microseconds per message, which equals CPU seconds per million messages."""
        return self.cpu_s / self.messages * MILLION if self.messages else None

    @property
    def core_percent(self) -> float:
        """The agent's share of one core."""
        return 100 * self.cpu_s / self.seconds

    @property
    def twin_core_percent(self) -> float | None:
        """The twin's share of one core; near 100 the twin was the bottleneck."""
        return None if self.twin_cpu_s is None else 100 * self.twin_cpu_s / self.seconds

    @property
    def rows_per_s(self) -> float:
        """Rows stored a second."""
        return self.rows / self.seconds

    @property
    def rows_per_insert(self) -> float | None:
        """Mean number of rows per insert."""
        return self.rows / self.inserts if self.inserts else None

    def as_json(self) -> dict[str, Any]:
        """All measured and derived figures."""
        derived = {
            name: None if (value := getattr(self, name)) is None else round(value, 3)
            for name, each in vars(type(self)).items()
            if isinstance(each, property)
        }
        return {**derived, **msgspec.to_builtins(self)}


class Answers(Struct, frozen=True, kw_only=True):
    """The outcome of requests that were due at fixed times."""

    seconds: float
    """From the first due time to the last answer, or to the end of the window."""
    asked: int
    answered: int
    """Requests answered with success."""
    errors: dict[str, int]
    """Failed requests by kind and failure, including those before the window."""
    took_ms: Spread | None
    """From the time a request was due to the end of its answer, including failed ones."""
    kinds: dict[str, Spread]
    """The same by kind of request."""
    begun_late_ms: Spread | None
    """How late requests were sent for lack of a free connection or CPU; part of `took_ms`."""
    cpu_s: float
    """CPU time of the load generator's process."""

    @property
    def per_s(self) -> float:
        """Requests answered a second."""
        return self.answered / self.seconds
