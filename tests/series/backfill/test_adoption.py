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
from klineagent.series.backfill.known_gaps import UNKNOWN, GapsByVenue, KnownGaps, SavedGaps
from klineagent.series.desired.selection import Selection
from klineagent.series.desired.state_file import LOCK, StateSaver, open_state
from klineagent.storage.memory.disk import MemoryDisk, Step
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


def ours(
    known: dict[str, Selection] | None = None, disk: MemoryDisk | None = None
) -> tuple[StateSaver, GapSaver]:
    """The state of our agent, with the selections that it has by now."""
    file = GapFile(disk=disk or MemoryDisk(), name="gaps", store=STORE)
    return StateSaver(None, known or {}), GapSaver(file)


async def test_selection_and_gaps_are_taken_over(tmp_path: Path) -> None:
    """The old files get other names, so that nothing is taken over twice."""
    old = await an_earlier_agent(tmp_path)
    saver, gaps = ours({"usdm": Selection()})
    await adopt_state(old, SPOT, saver, gaps)
    assert saver.selection_of("spot") == WANTED
    assert gaps.known.of("spot") == KNOWN
    left = {path.name for path in await trio.Path(tmp_path).iterdir()}
    assert left == {f"{old.name}.lock", f"{old.name}.adopted", f"{old.name}.gaps.adopted"}
    saver, gaps = ours({"usdm": Selection()})
    await adopt_state(old, SPOT, saver, gaps)
    assert saver.venues == []


@pytest.mark.logs("gaps_unreadable")
async def test_a_damaged_gap_file_means_that_nothing_is_known(tmp_path: Path) -> None:
    """Its series may have run: what is stored of them is looked up."""
    old = await an_earlier_agent(tmp_path)
    damaged = trio.Path(f"{old}.gaps")
    await damaged.write_text("damaged")
    saver, gaps = ours()
    await adopt_state(old, SPOT, saver, gaps)
    assert saver.selection_of("spot") == WANTED
    assert gaps.known_of("spot", ("BTCUSDT", Interval.M1)) == UNKNOWN
    assert gaps.known_of("usdm", ("BTCUSDT", Interval.M1)) is None
    assert await trio.Path(f"{damaged}.adopted").read_text() == "damaged"


async def test_gaps_are_saved_before_anything_says_that_they_were_taken_over(
    tmp_path: Path,
) -> None:
    """Otherwise a crash would lose them: the next start would not ask the old files again."""
    old, disk = await an_earlier_agent(tmp_path), MemoryDisk()
    await adopt_state(old, SPOT, *ours(disk=disk))
    _, gaps = ours(disk=disk.kill())
    await gaps.load()
    assert gaps.known.of("spot") == KNOWN


@pytest.mark.logs("state_not_adopted")
async def test_nothing_is_taken_over_if_gaps_cannot_be_saved(tmp_path: Path) -> None:
    """The next start tries again."""
    old, disk = await an_earlier_agent(tmp_path), MemoryDisk()
    saver, gaps = ours(disk=disk)
    with disk.failing(Step.WRITE):
        await adopt_state(old, SPOT, saver, gaps)
    assert (("spot" in saver.venues), gaps.known) == (False, GapsByVenue())


async def test_series_that_both_recorded_are_known_as_we_do(tmp_path: Path) -> None:
    """The old agent ran at the first start, and so nothing was taken over from it."""
    mine = KnownGaps(60_000, 120_000)
    saver, gaps = ours()
    for symbol, expected in (("ETHUSDT", KNOWN.gaps["BTCUSDT", Interval.M1]), ("BTCUSDT", mine)):
        old = await an_earlier_agent(tmp_path)
        gaps.known = GapsByVenue({"spot": SavedGaps({(symbol, Interval.M1): mine})})
        await adopt_state(old, SPOT, saver, gaps)
        assert gaps.known_of("spot", ("BTCUSDT", Interval.M1)) == expected
        saver, gaps = ours()


async def test_what_is_wanted_here_already_is_wanted_besides(tmp_path: Path) -> None:
    """What our agent already wants of the venue stays, and the other's is added to it."""
    old = await an_earlier_agent(tmp_path)
    mine = Selection(named={"SOLUSDT": M1}, excluded={"XRPUSDT": M1})
    saver, gaps = ours({"spot": mine})
    await adopt_state(old, SPOT, saver, gaps)
    both = {"SOLUSDT": M1, "BTCUSDT": M1}
    assert saver.selection_of("spot") == Selection(named=both, excluded=mine.excluded)


@pytest.mark.logs("state_not_adopted")
async def test_the_state_of_an_agent_that_runs_is_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Both would record the same symbols."""
    old = await an_earlier_agent(tmp_path)
    saver, gaps = ours()
    async with open_state(Folder(tmp_path, f"{old.name}{LOCK}"), old.name):
        await adopt_state(old, SPOT, saver, gaps)
    assert "spot" not in saver.venues
    [line] = logged(caplog, "state_not_adopted")
    assert "another agent uses it" in str(line["reason"])


async def test_without_an_earlier_agent_nothing_happens(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """No file is made."""
    saver, gaps = ours()
    with trio.fail_after(1):
        await adopt_state(tmp_path / "data-state-spot.json", SPOT, saver, gaps)
    assert "spot" not in saver.venues
    assert [*await trio.Path(tmp_path).iterdir()] == []
