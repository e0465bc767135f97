"""Adoption of the state of an agent that recorded another venue for itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from klineagent.core.interval import Interval
from klineagent.exchange.venues import SPOT
from klineagent.series.backfill.adoption import adopt_state
from klineagent.series.backfill.gap_file import GapFile, GapSaver
from klineagent.series.backfill.known_gaps import GapsByVenue, KnownGaps, SavedGaps
from klineagent.series.desired.selection import Selection
from klineagent.series.desired.state_file import LOCK, StateSaver, open_state
from klineagent.storage.memory.disk import MemoryDisk
from klineagent.storage.spool.disk import Folder
from tests.simulations.looking import logged

M1 = frozenset({Interval.M1})
WANTED = Selection(named={"BTCUSDT": M1})
KNOWN = SavedGaps({("BTCUSDT", Interval.M1): KnownGaps(0, 60_000)})
STORE = "memory:"


async def an_earlier_agent(folder: Path) -> Path:
    """The state of an agent for spot, and its gap file; returns its path."""
    old = folder / "data-state-spot.json"
    async with open_state(Folder(folder, f"{old.name}{LOCK}"), old.name) as state:
        await state.save({"spot": WANTED})
        await GapFile.beside(state, store=STORE).save(GapsByVenue({"spot": KNOWN}))
    return old


def ours(known: dict[str, Selection] | None = None) -> tuple[StateSaver, GapSaver]:
    """The state of our agent, with the selections that it has by now."""
    disk = MemoryDisk()
    return StateSaver(None, known or {}), GapSaver(GapFile(disk=disk, name="gaps", store=STORE))


async def test_selection_and_gaps_are_taken_over(tmp_path: Path) -> None:
    """The old files stay, for the older version to go back to."""
    old = await an_earlier_agent(tmp_path)
    saver, gaps = ours({"usdm": Selection()})
    await adopt_state(old, SPOT, saver, gaps)
    assert saver.selection_of("spot") == WANTED
    assert gaps.known.of("spot") == KNOWN
    assert old.exists()


async def test_what_was_recorded_here_already_stays_as_it_is(tmp_path: Path) -> None:
    """Even if nothing is wanted of it any more."""
    old = await an_earlier_agent(tmp_path)
    saver, gaps = ours({"spot": Selection()})
    await adopt_state(old, SPOT, saver, gaps)
    assert (saver.venues, gaps.known) == ([], GapsByVenue())


@pytest.mark.logs("state_not_adopted")
async def test_the_state_of_an_agent_that_runs_is_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Both would record the same symbols."""
    old = await an_earlier_agent(tmp_path)
    saver, gaps = ours()
    async with open_state(Folder(tmp_path, f"{old.name}{LOCK}"), old.name):
        await adopt_state(old, SPOT, saver, gaps)
    assert not saver.knows("spot")
    [line] = logged(caplog, "state_not_adopted")
    assert "another agent uses it" in str(line["reason"])


async def test_without_an_earlier_agent_nothing_happens(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """No file is made."""
    saver, gaps = ours()
    with trio.fail_after(1):
        await adopt_state(tmp_path / "data-state-spot.json", SPOT, saver, gaps)
    assert not saver.knows("spot")
    assert [*await trio.Path(tmp_path).iterdir()] == []
