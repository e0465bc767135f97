"""Connections and limits on a terminal."""

from __future__ import annotations

from msgspec.structs import replace

from klineagent.api.models.reports import Feeds, VenueLimits
from klineagent.cli.remote.exchange_views import feed_names, feeds_view, limits_view, weight_text
from tests.cli.remote.answers import FEED, LIMITS, LOST, STANDING_DOWN
from tests.cli.remote.screen import screen, words_of

COINM = VenueLimits(
    venue="coinm",
    rest=LIMITS.rest,
    connections=LIMITS.connections,
    streams=LIMITS.streams,
    messages=LIMITS.messages,
)
SPOT = replace(
    COINM,
    venue="spot",
    rest=replace(LIMITS.rest, pool="spot", used=7, limit=4800, standing_down_seconds=90.0),
)
THREE = replace(LIMITS, others=[COINM, SPOT])


def test_limits_and_feeds() -> None:
    """A line each, with the reason of a loss."""
    lines = screen(limits_view(STANDING_DOWN))
    assert words_of(lines, "weight")[:4] == ["weight", "120", "1920", "2400"]
    assert lines[-1] == "No REST request for 90s"
    assert "No REST request" not in "\n".join(screen(limits_view(LIMITS)))
    moment = replace(LIMITS, rest=replace(LIMITS.rest, standing_down_seconds=0.2))
    assert screen(limits_view(moment))[-1] == "No REST request for 1s"
    lines = screen(feeds_view(Feeds([FEED, LOST])))
    assert "exchange: [1001]" in "".join(lines[-3:]).replace("  ", "")
    assert words_of(lines, "1")[:6] == ["1", "up", "14/14", "70", "2h", "0s"]


def test_with_several_venues_each_has_its_name() -> None:
    """Their connections are numbered each for itself."""
    lines = screen(limits_view(THREE))
    assert [line.strip() for line in lines if "Limits" in line] == [
        *("Limits of usdm", "Limits of coinm", "Limits of spot")
    ]
    feeds = [FEED, replace(FEED, venue="spot")]
    assert feed_names(feeds) == ["usdm 1", "spot 1"]
    assert words_of(screen(feeds_view(Feeds(feeds))), "spot")[:4] == ["spot", "1", "up", "14/14"]


def test_the_weight_of_a_pool_is_told_once() -> None:
    """Two venues may share one; a pause is that of a venue."""
    assert weight_text(THREE) == (
        "120 of 1920 (futures), 7 of 4800 (spot) this minute; no REST request to spot for 90s"
    )
    assert weight_text(replace(LIMITS, others=[COINM])) == "120 of 1920 this minute (2400 allowed)"
