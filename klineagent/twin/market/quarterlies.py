"""Quarterly contracts: each ends on the last Friday of a quarter, and the next one follows. Pure.

Two trade at a time. When one is delivered, the next quarter's becomes the current one, and a new
one for the quarter after it is listed.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import chain, count, islice, takewhile

from attrs import evolve

from klineagent.twin.interval import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS
from klineagent.twin.market.market import Listing

_DELIVERED_AT_HOUR = 8
_FRIDAY = 4
# How long before and after a contract's life the list shows it is not documented; neither is how
# long it is about to be delivered while it still trades.
_PENDING_MS = DAY_MS
_ABOUT_TO_END_MS = 10 * MINUTE_MS
_DELIVERING_MS = HOUR_MS
# A year's: with made-up markets that run ahead of time, one may see the roll of each.
_CONTRACTS = 4


def quarterlies(usual: Listing, start_ms: int) -> Iterator[Listing]:
    """Yield the contracts on the pair of `usual`: since its own listing, and those of a year."""
    past = takewhile(lambda ends_ms: ends_ms <= start_ms, _deliveries(usual.onboard_ms))
    for delivery_ms in chain(past, islice(_deliveries(start_ms), _CONTRACTS)):
        listed_ms = _before(_before(delivery_ms))
        yield evolve(
            usual,
            symbol=f"{usual.pair}_{_date(delivery_ms):%y%m%d}",
            contract_type="CURRENT_QUARTER",
            onboard_ms=max(usual.onboard_ms, listed_ms),
            delivery_ms=delivery_ms,
        )


def as_listed(listing: Listing, now_ms: int) -> Listing | None:
    """Return `listing` as the list of symbols shows it at `now_ms`; None if it does not."""
    if listing.contract_type != "CURRENT_QUARTER":
        return listing
    ends_ms = listing.delivery_ms
    kind = "CURRENT_QUARTER" if now_ms >= _before(ends_ms) else "NEXT_QUARTER"
    if not listing.onboard_ms - _PENDING_MS <= now_ms < ends_ms + _DELIVERING_MS:
        return None
    if now_ms < listing.onboard_ms:
        return evolve(listing, contract_type=kind, status="PENDING_TRADING")
    if now_ms < ends_ms - _ABOUT_TO_END_MS:
        return evolve(listing, contract_type=kind)
    if now_ms < ends_ms:
        return evolve(listing, status="PRE_DELIVERING")
    return evolve(listing, contract_type=f"{kind} DELIVERING", status="DELIVERING")


def _deliveries(after_ms: int) -> Iterator[int]:
    """Yield the times of delivery after `after_ms`."""
    times = map(_delivery_of, count(_quarter_of(after_ms)))
    return (delivery_ms for delivery_ms in times if delivery_ms > after_ms)


def _before(delivery_ms: int) -> int:
    """The delivery before the one at `delivery_ms`."""
    return _delivery_of(_quarter_of(delivery_ms) - 1)


def _quarter_of(time_ms: int) -> int:
    """The quarter that contains a time, counted from year 0 on."""
    date = _date(time_ms)
    return date.year * 4 + (date.month - 1) // 3


def _delivery_of(quarter: int) -> int:
    """The delivery of a quarter: at 08:00 UTC on its last Friday."""
    year, number = divmod(quarter + 1, 4)
    last_day = datetime(year, 3 * number + 1, 1, _DELIVERED_AT_HOUR, tzinfo=UTC) - timedelta(days=1)
    friday = last_day - timedelta(days=(last_day.weekday() - _FRIDAY) % 7)
    return int(friday.timestamp()) * SECOND_MS


def _date(time_ms: int) -> datetime:
    return datetime.fromtimestamp(time_ms / SECOND_MS, UTC)
