"""Renders connections to the exchange, and its limits, for a terminal. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import ceil

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from klineagent.api.models.reports import Feeds, FeedState, Limits, VenueLimits
from klineagent.cli.remote.wording import counted, duration
from klineagent.cli.tables import plain_table


def limits_view(limits: Limits) -> RenderableType:
    """Render the use of each limit, of the default venue and of others that run."""
    return Group(
        *_limits_of(limits, "Limits" + (f" of {limits.venue}" if limits.others else "")),
        *(
            each
            for venue in limits.others
            for each in _limits_of(venue, f"Limits of {venue.venue}")
        ),
    )


def _limits_of(limits: VenueLimits, title: str) -> Iterator[RenderableType]:
    rest, connections, streams = limits.rest, limits.connections, limits.streams
    table = plain_table(title, ["limit"], ["used", "our limit", "exchange's"], ["per"])
    minute = f"minute, {rest.minute_ends_in_seconds:.0f} s left; pool {rest.pool}"
    table.add_row("weight", str(rest.used), str(rest.limit), str(rest.allowed), minute)
    window = duration(connections.window_seconds)
    table.add_row("dials", str(connections.used), str(connections.limit), "", window)
    wanted = counted(streams.connections, "connection")
    table.add_row("streams", str(streams.wanted), str(streams.limit_per_connection), "", wanted)
    yield table
    under_way = counted(rest.requests_under_way, "request")
    yield Text(f"{under_way} under way, {rest.requests_waiting} waiting")
    if away := rest.standing_down_seconds:
        yield Text(f"No REST request for {duration(ceil(away))}", style="yellow")


def feeds_view(feeds: Feeds) -> RenderableType:
    """Render a line per connection."""
    return feeds_table(feeds.feeds, is_cut=False)


def feeds_table(feeds: Iterable[FeedState], *, is_cut: bool) -> Table:
    """Make the table of `feeds_view`; `is_cut` cuts long reasons to one line."""
    numbers = ["streams", "msg/s", "age", "data", "dials", "lost"]
    table = plain_table("Feeds", ["", "state"], numbers, ["last loss"])
    table.columns[-1].no_wrap = is_cut
    names = feed_names(feeds := [*feeds])
    for each, name in zip(feeds, names, strict=True):
        streams = f"{each.streams_carried}/{each.streams_wanted}"
        loss = each.last_loss
        last_loss = "" if loss is None else f"{duration(loss.seconds_ago)} ago: {loss.reason}"
        table.add_row(
            name,
            Text(each.state.replace("_", " "), style="" if each.state == "up" else "yellow"),
            streams,
            f"{each.messages_per_second:.0f}",
            _duration_or_none(each.age_seconds),
            _duration_or_none(each.last_data_seconds_ago),
            str(each.dials),
            str(each.lost),
            Text(last_loss, overflow="ellipsis" if is_cut else "fold"),
        )
    return table


def feed_names(feeds: Sequence[FeedState]) -> list[str]:
    """Name connections by their numbers, and by their venues if there are several."""
    is_one = len({each.venue for each in feeds}) <= 1
    return [str(each.number) if is_one else f"{each.venue} {each.number}" for each in feeds]


def messages_rate(feeds: Feeds) -> float:
    """Return messages a second, over all connections."""
    return sum(each.messages_per_second for each in feeds.feeds)


def feeds_text(feeds: Sequence[FeedState]) -> str:
    """Say how many connections are up, and what they carry."""
    up = sum(each.state != "down" for each in feeds)
    carried = sum(each.streams_carried for each in feeds)
    return f"{up} of {len(feeds)} up, carrying {counted(carried, 'stream')}"


def weight_text(limits: Limits) -> str:
    """Say what of this minute's weight is used, of each pool, and which venue gets no request."""
    venues = (limits, *limits.others)
    # One of each pool: its weight is that of all its venues.
    pools = {each.rest.pool: each.rest for each in reversed(venues)}
    texts = [
        f"{rest.used} of {rest.limit}{f' ({pool})' if len(pools) > 1 else ''}"
        for pool, rest in reversed(pools.items())
    ]
    allowed = f" ({limits.rest.allowed} allowed)" if len(pools) == 1 else ""
    pauses = [
        f"; no REST request{f' to {each.venue}' if limits.others else ''}"
        f" for {duration(ceil(each.rest.standing_down_seconds))}"
        for each in venues
        if each.rest.standing_down_seconds
    ]
    return f"{', '.join(texts)} this minute{allowed}{''.join(pauses)}"


def _duration_or_none(seconds: float | None) -> str:
    return "" if seconds is None else duration(seconds)
