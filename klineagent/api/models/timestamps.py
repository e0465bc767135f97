"""Times of the API: written as ISO 8601 in UTC; read as that or as milliseconds. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from klineagent.core.errors import InvalidRequest
from klineagent.core.interval import SECOND_MS

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_YEAR_9999_MS = 253_370_764_800_000


def utc(time_ms: int) -> str:
    """Format `time_ms` as ISO 8601."""
    moment = _EPOCH + timedelta(milliseconds=time_ms)
    return moment.isoformat(timespec="milliseconds" if time_ms % SECOND_MS else "seconds")


def read_moment(text: str, *, field: str) -> int:
    """Read a time in milliseconds from `text`.

    Raises:
        InvalidRequest: `text` is no time, or out of range.
    """
    text = text.strip()
    if text.isascii() and text.isdigit():
        time_ms = int(text) if len(text) < len(str(_YEAR_9999_MS)) + 1 else _YEAR_9999_MS
    else:
        time_ms = _read_iso(text, field)
    if not 0 <= time_ms < _YEAR_9999_MS:
        raise InvalidRequest(f"{field}: {text} is outside the years 1970 to 9998")
    return time_ms


def _read_iso(text: str, field: str) -> int:
    # A `+` that was not escaped arrives as a blank.
    written = text.replace(" ", "+") if "T" in text else text
    try:
        moment = datetime.fromisoformat(written)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return (moment - _EPOCH) // timedelta(milliseconds=1)
    except (ValueError, OverflowError) as error:
        raise InvalidRequest(
            f"{field}: {text[:40]!r} is no time; write 2026-02-01T20:00:00Z, or milliseconds"
        ) from error
