"""What a measurement tells. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any

import msgspec
from msgspec import Struct

MILLION = 1_000_000


class Spread(Struct, frozen=True):
    """How the values of one kind are spread."""

    count: int
    p50: float
    p99: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """The spread of `values`; None where there are none."""
        if not values:
            return None
        ranked = sorted(values)

        def percentile(share: float) -> float:
            return round(ranked[ceil(share * len(ranked)) - 1], 3)

        return cls(len(ranked), percentile(0.5), percentile(0.99), round(ranked[-1], 3))


class Figures(Struct, frozen=True, kw_only=True):
    """One window of an agent's life. Memory is in bytes."""

    seconds: float
    streams: int
    messages: int
    """Klines of streams that are wanted; not all of them need have been read in full."""
    cpu_s: float
    """Of all threads of the agent's process."""
    rss: int
    peak_rss: int
    """Since the process began."""
    inserts: int
    rows: int
    closed: int
    """Candles that closed in the window and were stored in it."""
    found: int
    """Of these, how many the store finds when it is asked for them afterwards."""
    close_to_stored_ms: Spread | None
    """From the end of a candle to the return of the insert that it was part of."""
    lag_ms: Spread | None
    """How late a task is that wants to run every 10 ms."""
    newest_age_ms: int | None
    """How old the newest row of the last insert was when that returned."""
    insert_age_ms: Spread | None
    """The same, of every insert in the window."""
    bad_frames: int
    healed: int
    """Candles that were missing and had to be fetched."""
    missing: int
    """Candles known to be missing in the end."""
    warnings: dict[str, int]
    """Warnings and errors the agent has logged since it began, by event."""
    ping_ms: Spread | None = None
    """Of `/ping` on the status server."""
    twin_cpu_s: float | None = None

    @property
    def messages_per_s(self) -> float:
        """What came."""
        return self.messages / self.seconds

    @property
    def cpu_us_per_message(self) -> float | None:
        """CPU time a message; also CPU seconds a million of them."""
        return self.cpu_s / self.messages * MILLION if self.messages else None

    @property
    def core_percent(self) -> float:
        """The agent's share of one core."""
        return 100 * self.cpu_s / self.seconds

    @property
    def twin_core_percent(self) -> float | None:
        """The twin's share of one core; near 100 it is the twin that was measured."""
        return None if self.twin_cpu_s is None else 100 * self.twin_cpu_s / self.seconds

    @property
    def rows_per_s(self) -> float:
        """Rows stored."""
        return self.rows / self.seconds

    @property
    def rows_per_insert(self) -> float | None:
        """Rows stored together."""
        return self.rows / self.inserts if self.inserts else None

    def as_json(self) -> dict[str, Any]:
        """All of it, and what follows from it."""
        derived = {
            name: None if (value := getattr(self, name)) is None else round(value, 3)
            for name, each in vars(type(self)).items()
            if isinstance(each, property)
        }
        return {**derived, **msgspec.to_builtins(self)}


class Answers(Struct, frozen=True, kw_only=True):
    """What became of requests that were due at fixed moments."""

    seconds: float
    """From the first of these moments to the last answer, or to the end of the window."""
    asked: int
    answered: int
    """As they should be."""
    errors: dict[str, int]
    """All others, by what happened; those before the window, too."""
    took_ms: Spread | None
    """From the moment a request was due to the end of its answer; failed ones, too."""
    kinds: dict[str, Spread]
    """The same, by kind of request."""
    begun_late_ms: Spread | None
    """How late they were sent, for want of a free connection or of CPU; part of what they took."""
    cpu_s: float
    """Of the process that asks."""

    @property
    def per_s(self) -> float:
        """Requests answered a second."""
        return self.answered / self.seconds
