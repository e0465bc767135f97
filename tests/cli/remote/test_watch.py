from __future__ import annotations

import io

import pytest
from msgspec.structs import replace
from rich.console import Console

from klineagent.cli.remote.watch import Watched, line, screen
from klineagent.core.errors import AgentUnreachable
from tests.cli.remote.answers import BEHIND, FEED, LOST, a_snapshot

MANY_FEEDS = tuple(replace(FEED, number=number) for number in range(2, 40))
MANY_BEHIND = tuple(replace(BEHIND, symbol=f"S{number}USDT") for number in range(300))


def _screen(watched: Watched, *, height: int, width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(screen(watched, title="http://127.0.0.1:9999", height=height))
    assert isinstance(console.file, io.StringIO)
    return [each.rstrip() for each in console.file.getvalue().splitlines()]


def _a_busy_one() -> Watched:
    watched = Watched(a_snapshot())
    for number in range(100):
        watched.see(a_snapshot(symbols=1 + number % 2))
    watched.see(a_snapshot(feeds=(*MANY_FEEDS, LOST), behind=MANY_BEHIND))
    return watched


@pytest.mark.parametrize("height", [22, 24, 50, 200])
def test_it_fills_the_screen_and_no_more(height: int) -> None:
    """Each part has room, however much there is to show."""
    lines = _screen(_a_busy_one(), height=height)
    assert height - 3 <= len(lines) <= height
    text = "\n".join(lines)
    for shown in ("14 of 2 symbols", "S0USDT", "down", "candles are missing in"):
        assert shown in text


def test_a_small_screen_has_the_totals() -> None:
    """What does not fit is left out, and no line is wrapped."""
    lines = _screen(_a_busy_one(), height=8, width=50)
    assert lines[1] == "streams   14 of 2 symbols"
    assert len(lines) == 7


def test_the_only_feed_fits_on_a_small_screen() -> None:
    """Empty parts take no room."""
    assert any("14/14" in each for each in _screen(Watched(a_snapshot()), height=14))


def test_an_agent_that_is_away_is_told_of_once() -> None:
    """The screen keeps the last state, and shows when the agent is back."""
    watched = Watched(a_snapshot())
    gone = AgentUnreachable("no agent answers [here]")
    assert [event.text for event in watched.miss(gone)] == ["no agent answers [here]"]
    assert watched.miss(gone) == []
    lines = _screen(watched, height=24)
    assert "no agent answers [here]" in lines
    assert any("14/14" in each for each in lines)
    assert [event.text for event in watched.see(a_snapshot())] == ["the agent answers again"]
    assert not watched.trouble


def test_one_line_for_a_pipe() -> None:
    """Names and values, for grep."""
    assert line(a_snapshot(feeds=(FEED, LOST), behind=(BEHIND,))) == (
        "streams=14 symbols=2 feeds=1/2 messages_per_second=140 behind=1 missing=2 weight=120/1920"
    )
