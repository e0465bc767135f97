"""The state of an agent at one moment, and the events between two moments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

from attrs import evolve, frozen

from klineagent.api.models.contract import Status
from klineagent.api.models.reports import (
    MOST_SERIES,
    Coverage,
    Feeds,
    FeedState,
    Limits,
    SeriesCoverage,
    Storage,
)
from klineagent.cli.remote.connection import AgentAnswer, AgentConnection
from klineagent.cli.remote.exchange_views import feed_names
from klineagent.cli.remote.wording import duration

SHOWN_NAMES = 5
SHOWN_PAUSE_S = 1
"""Shorter pauses, of which there are many between failing tries, are no event."""


@frozen(kw_only=True)
class Snapshot:
    """The state of an agent at one moment."""

    status: Status
    feeds: Feeds
    limits: Limits
    storage: Storage
    behind: tuple[SeriesCoverage, ...] = ()
    """Series with missing candles or a lag, the worst first."""

    def with_series_of(self, before: Snapshot) -> Snapshot:
        """Copy this snapshot with the lagging series of `before`."""
        return evolve(self, behind=before.behind)

    @property
    def missing(self) -> int:
        """How many candles are missing."""
        return sum(each.missing.candles for each in self.behind)


async def take_snapshot(connection: AgentConnection) -> Snapshot:
    """Ask the agent for its state, without the series, which may be many.

    Raises:
        AgentError: a call failed.
    """
    status = await connection.get(Status, "/status")
    feeds = await connection.get(Feeds, "/v1/feeds")
    limits = await connection.get(Limits, "/v1/limits")
    storage = await connection.get(Storage, "/v1/storage")
    return Snapshot(
        status=status.value, feeds=feeds.value, limits=limits.value, storage=storage.value
    )


async def with_series(snapshot: Snapshot, connection: AgentConnection) -> Snapshot:
    """Copy `snapshot` with the series that lag now.

    Raises:
        AgentError: a call failed.
    """
    behind = [
        series
        for page in await coverage_pages(connection)
        for series in page.value.series
        if series.missing.candles or series.lag_seconds
    ]
    behind.sort(key=lambda each: (-each.missing.candles, -each.lag_seconds))
    return evolve(snapshot, behind=tuple(behind))


async def coverage_pages(
    connection: AgentConnection, symbol: str = "", interval: str = ""
) -> list[AgentAnswer[Coverage]]:
    """Fetch the coverage of all series, or of those named, in as few answers as possible.

    Raises:
        AgentError: a call failed.
    """
    query: dict[str, str | int] = {"limit": MOST_SERIES, "symbol": symbol, "interval": interval}
    pages = [await connection.get(Coverage, "/v1/coverage", query=query)]
    while (after := pages[-1].value.next) is not None:
        query["after"] = after
        pages.append(await connection.get(Coverage, "/v1/coverage", query=query))
    return pages


def events_between(before: Snapshot, after: Snapshot) -> Iterator[str]:
    """Describe what happened between two snapshots, as far as they show it."""
    yield from _of_symbols(before.status.symbols, after.status.symbols)
    yield from _of_feeds(before.feeds.feeds, after.feeds.feeds)
    yield from _of_series(_named(before.behind), _named(after.behind))
    yield from _of_storage(before.storage, after.storage)
    stood = _pauses(before.limits)
    for venue, stands in _pauses(after.limits).items():
        if stands >= SHOWN_PAUSE_S > stood.get(venue, 0):
            # Agents do not distinguish a limit that was hit from a back-off after failures.
            to = f" to {venue}" if after.limits.others else ""
            yield (
                f"no REST request{to} for {duration(stands)}: the exchange asked for a pause, or"
                " requests failed"
            )


def _pauses(limits: Limits) -> dict[str, float]:
    return {each.venue: each.rest.standing_down_seconds for each in (limits, *limits.others)}


def _of_symbols(before: Iterable[str], after: Iterable[str]) -> Iterator[str]:
    if added := sorted(set(after) - set(before)):
        yield f"added {_some(added)}"
    if removed := sorted(set(before) - set(after)):
        yield f"removed {_some(removed)}"


def _of_feeds(before: Sequence[FeedState], after: Sequence[FeedState]) -> Iterator[str]:
    # Not by name: the names of all change when a second venue opens.
    stood, stands = _by_number(before), _by_number(after)
    both = {**stood, **stands}
    names = dict(zip(both, feed_names([*both.values()]), strict=True))
    for number, feed in stands.items():
        name, was = names[number], stood.get(number)
        if was is None:
            yield f"feed {name} is {_state(feed)}"
            continue
        if feed.lost > was.lost and feed.last_loss is not None:
            yield f"feed {name} was lost: {feed.last_loss.reason}"
        if feed.replaced > was.replaced:
            yield f"feed {name} was replaced"
        if feed.state != was.state:
            yield f"feed {name} is {_state(feed)}"
    for number in stood.keys() - stands.keys():
        yield f"feed {names[number]} is gone"


def _of_series(
    before: Mapping[str, SeriesCoverage], after: Mapping[str, SeriesCoverage]
) -> Iterator[str]:
    missing_before = {name for name, each in before.items() if each.missing.candles}
    missing_after = {name for name, each in after.items() if each.missing.candles}
    if begun := sorted(missing_after - missing_before):
        yield f"candles are missing in {_some(begun)}"
    if over := sorted(missing_before - missing_after):
        yield f"no candle is missing any more in {_some(over)}"


def _of_storage(before: Storage, after: Storage) -> Iterator[str]:
    if before.takes_rows and not after.takes_rows:
        yield f"the database takes no rows: {after.error}"
    if after.takes_rows and not before.takes_rows:
        yield "the database takes rows again"


def _by_number(feeds: Iterable[FeedState]) -> dict[tuple[str, int], FeedState]:
    """Map each venue's numbers to its feeds."""
    return {(each.venue, each.number): each for each in feeds}


def _named(series: Iterable[SeriesCoverage]) -> dict[str, SeriesCoverage]:
    return {f"{each.symbol} {each.interval}": each for each in series}


def _state(feed: FeedState) -> str:
    return feed.state.replace("_", " ")


def _some(names: list[str]) -> str:
    more = len(names) - SHOWN_NAMES
    shown = ", ".join(islice(names, SHOWN_NAMES))
    return f"{shown} and {more} more" if more > 0 else shown
