"""The state of an agent at one moment, and the events between two moments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from attrs import frozen
from msgspec.structs import asdict

from klineagent.api.models.jobs import JobNow
from klineagent.api.models.overview import Overview
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
from klineagent.cli.remote.wording import counted, duration

SHOWN_NAMES = 5
SHOWN_PAUSE_S = 1
"""Shorter pauses, of which there are many between failing tries, are no event."""


@frozen(kw_only=True)
class Snapshot:
    """The state of an agent at one moment."""

    symbols: int
    streams: int
    feeds: Feeds
    limits: Limits
    storage: Storage
    behind: tuple[SeriesCoverage, ...] = ()
    """The worst series with missing candles."""
    incomplete: int = 0
    """The number of series with missing candles."""
    missing: int = 0
    """The number of missing candles."""
    jobs: tuple[JobNow, ...] = ()
    """Those that are not over."""
    reasons: tuple[str, ...] = ()
    """Why the agent is not ready."""
    next: int = 0
    """From where on to ask for what happens next."""

    @classmethod
    def of(cls, overview: Overview) -> Snapshot:
        """Read an agent's overview."""
        main, *others = (each.limits for each in overview.venues)
        return cls(
            symbols=overview.totals.symbols,
            streams=overview.totals.series,
            feeds=Feeds(overview.feeds),
            limits=Limits(**asdict(main), others=others),
            storage=overview.storage,
            behind=tuple(overview.behind),
            incomplete=overview.totals.incomplete,
            missing=overview.totals.missing,
            jobs=tuple(each for each in overview.jobs if each.ended is None),
            reasons=tuple(each.reason for each in overview.reasons),
            next=overview.next,
        )


async def take_snapshot(connection: AgentConnection, since: int = 0) -> Snapshot:
    """Ask the agent for its state.

    Raises:
        AgentError: the call failed.
    """
    overview = await connection.get(Overview, "/v1/overview", query={"since": since})
    return Snapshot.of(overview.value)


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
    yield from _of_symbols(before.symbols, after.symbols)
    yield from _of_feeds(before.feeds.feeds, after.feeds.feeds)
    yield from _of_series(before, after)
    yield from _of_storage(before.storage, after.storage)
    if bool(before.reasons) != bool(after.reasons):  # their numbers change all the time
        yield f"not ready: {'; '.join(after.reasons)}" if after.reasons else "ready"
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


def _of_symbols(before: int, after: int) -> Iterator[str]:
    if before != after:
        change = "added" if after > before else "removed"
        yield f"{change} {counted(abs(after - before), 'symbol')}"


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


def _of_series(before: Snapshot, after: Snapshot) -> Iterator[str]:
    if any(each.incomplete > len(each.behind) for each in (before, after)):
        # Which of them are listed changes while none begins and none ends.
        if before.incomplete != after.incomplete:
            yield f"candles are missing in {after.incomplete} series"
        return
    missing_before, missing_after = _incomplete(before), _incomplete(after)
    if begun := sorted(missing_after - missing_before):
        yield f"candles are missing in {_some(begun)}"
    if over := sorted(missing_before - missing_after):
        yield f"no candle is missing any more in {_some(over)}"


def _incomplete(snapshot: Snapshot) -> set[str]:
    return {f"{each.symbol} {each.interval}" for each in snapshot.behind if each.missing.candles}


def _of_storage(before: Storage, after: Storage) -> Iterator[str]:
    if before.takes_rows and not after.takes_rows:
        yield f"the database takes no rows: {after.error}"
    if after.takes_rows and not before.takes_rows:
        yield "the database takes rows again"


def _by_number(feeds: Iterable[FeedState]) -> dict[tuple[str, int], FeedState]:
    """Map each venue's numbers to its feeds."""
    return {(each.venue, each.number): each for each in feeds}


def _state(feed: FeedState) -> str:
    return feed.state.replace("_", " ")


def _some(names: list[str]) -> str:
    more = len(names) - SHOWN_NAMES
    shown = ", ".join(islice(names, SHOWN_NAMES))
    return f"{shown} and {more} more" if more > 0 else shown
