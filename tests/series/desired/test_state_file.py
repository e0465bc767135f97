"""The state file, on real folders and on their twin in memory."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from klineagent.core.errors import StateError, StateUnreadable
from klineagent.core.interval import Interval
from klineagent.exchange.venues import SPOT
from klineagent.series.desired.selection import Selection
from klineagent.series.desired.state_file import LOCK, SAVED_WITHIN_S, StateSaver, open_state
from klineagent.storage.memory.disk import MemoryDisk, ProcessDied, Step
from klineagent.storage.spool.disk import TEMPORARY, Disk, Folder, write_durably
from tests.places import EARLIER
from tests.storage.slow_disk import SlowDisk

SAVED = EARLIER / "subscriptions.json"
NAME = "state.json"
SAVING_S = 0.2
SOME = Selection(named={"BTCUSDT": frozenset({Interval.M1})})
MORE = Selection(named={"BTCUSDT": frozenset({Interval.M1, Interval.H1})})


@pytest.fixture(params=["folder", "memory"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    """An empty folder of each kind."""
    return Folder(tmp_path / "deep", NAME + LOCK) if request.param == "folder" else MemoryDisk()


async def test_what_was_saved_last_is_loaded(disk: Disk) -> None:
    """At first there is nothing."""
    async with open_state(disk, NAME) as state:
        assert await state.load() == {}
        await state.save({"usdm": SOME})
        await state.save({"usdm": MORE})
        assert await state.load() == {"usdm": MORE}


async def test_the_file_of_an_earlier_agent_is_loaded(disk: Disk) -> None:
    """Commit 3f94213 wrote it, and it does not name its version."""
    async with open_state(disk, NAME) as state:
        await disk.run(lambda files: write_durably(files, "", NAME, SAVED.read_bytes()))
        selections = await state.load()
        selection = selections["usdm"]
        assert selection.named == {"BTCUSDT": frozenset({Interval.M1, Interval.H1})}
        assert [each.quote for each in selection.matched] == ["USDC"]
        await state.save(selections)
        assert await state.load() == selections


async def test_all_of_spot_in_an_older_file_still_has_1s(disk: Disk) -> None:
    """Today `all` leaves it out, except from what is excluded; what was recorded goes on."""
    old = (
        b'{"format": 1, "venue": "spot", "exclude": [{"symbols": ["ETHUSDT"], "intervals": "all"}],'
        b' "subscriptions": [{"symbols": ["BTCUSDT"], "intervals": "all"}]}'
    )
    async with open_state(disk, NAME) as state:
        await disk.run(lambda files: write_durably(files, "", NAME, old))
        selections = await state.load()
        assert selections["spot"].named == {"BTCUSDT": SPOT.intervals}
        assert selections["spot"].excluded == {"ETHUSDT": SPOT.intervals}
        await state.save(selections)
        assert await state.load() == selections


async def test_a_file_keeps_the_venues_apart(disk: Disk) -> None:
    """Saving what one wants changes nothing of the others."""
    async with open_state(disk, NAME) as state, trio.open_nursery() as nursery:
        saver = StateSaver(state, {"usdm": SOME, "spot": MORE})
        nursery.start_soon(saver.run)
        saver.save("usdm", Selection())
        assert await saver.saved()
        assert await state.load() == {"usdm": Selection(), "spot": MORE}
        assert saver.venues == ["spot"]
        nursery.cancel_scope.cancel(reason="the test is over")


async def test_keys_that_a_later_version_added_do_no_harm(
    disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    """Keys of the file and of its entries; they are logged."""
    added = SAVED.read_text().replace('"symbols"', '"since": 1, "symbols"')
    added = added.replace('"quote"', '"base": "BTC", "quote"')
    added = added.replace('"venue"', '"klineagent": "4.5.6", "color": [], "venue"')
    async with open_state(disk, NAME) as state:
        await disk.run(lambda files: write_durably(files, "", NAME, added.encode()))
        assert (await state.load())["usdm"].named.keys() == {"BTCUSDT"}
    [line] = [each for each in caplog.records if each.getMessage() == "state_keys_ignored"]
    assert vars(line)["keys"] == ["color", "since", "base"]
    assert vars(line)["klineagent"] == "4.5.6"


async def test_a_file_of_a_newer_format_is_refused_by_name(disk: Disk) -> None:
    """Whatever else it contains; it is not changed."""
    newer = b'{"format": 3, "klineagent": "4.5.6", "subscriptions": {"a": 1}}'
    async with open_state(disk, NAME) as state:
        await disk.run(lambda files: write_durably(files, "", NAME, newer))
        with pytest.raises(StateUnreadable, match=r"klineagent 4\.5\.6 wrote it \(format 3\)"):
            await state.load()
    assert await disk.run(lambda files: files.read(NAME)) == newer


async def test_another_agent_cannot_use_it(disk: Disk) -> None:
    """Two would overwrite each other; the next one may have it afterwards."""
    async with open_state(disk, NAME):
        other = Folder(disk.path, disk.lock) if isinstance(disk, Folder) else disk
        with pytest.RaisesGroup(
            pytest.RaisesExc(StateError, match=f"{NAME}: another agent uses it"),
            allow_unwrapped=True,
        ):
            async with open_state(other, NAME):
                pass
    async with open_state(disk, NAME):
        pass


async def test_two_states_share_a_folder(tmp_path: Path) -> None:
    """Each has a lock of its own."""
    async with (
        open_state(Folder(tmp_path, "a.lock"), "a") as a,
        open_state(Folder(tmp_path, "b.lock"), "b") as b,
    ):
        await a.save({"usdm": SOME})
        await b.save({"usdm": MORE})
        assert (await a.load(), await b.load()) == ({"usdm": SOME}, {"usdm": MORE})


async def test_a_path_that_cannot_be_used_is_reported(tmp_path: Path) -> None:
    """One line, with the path and the system's reason."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match=rf"file/{NAME}: (Not a directory|File exists)"):
        async with open_state(Folder(tmp_path / "file"), NAME):
            pass
    (tmp_path / NAME).mkdir()
    async with open_state(Folder(tmp_path), NAME) as state:
        with pytest.raises(StateError, match=rf"{NAME}: Is a directory"):
            await state.load()


@pytest.mark.parametrize("steps", range(12))
async def test_a_save_that_dies_leaves_the_one_before(
    autojump_clock: MockClock, steps: int
) -> None:
    """Or it is complete; and its temporary file does not disturb the next save."""
    disk = MemoryDisk()
    async with open_state(disk, NAME) as state:
        await state.save({"usdm": SOME})
        disk.die_after(steps)
        with suppress(ProcessDied):
            await state.save({"usdm": MORE})
        left = disk.kill()
    async with open_state(left, NAME) as state:
        assert await state.load() in ({"usdm": SOME}, {"usdm": MORE})
        await state.save({"usdm": SOME})
        assert await state.load() == {"usdm": SOME}
    assert not any(path.endswith(TEMPORARY) for path in left.paths)


async def test_the_saver_saves_the_newest_selection(autojump_clock: MockClock) -> None:
    """Afterwards it reports the selection as saved."""
    disk = MemoryDisk()
    async with open_state(disk, NAME) as state, trio.open_nursery() as nursery:
        saver = StateSaver(state)
        nursery.start_soon(saver.run)
        assert await saver.saved()  # nothing was given
        saver.save("usdm", MORE)
        saver.save("usdm", SOME)
        assert await saver.saved()
        assert await state.load() == {"usdm": SOME}
        nursery.cancel_scope.cancel(reason="the test is over")


async def test_a_selection_given_during_a_save_is_saved_next(
    autojump_clock: MockClock,
) -> None:
    """The save under way is older, and confirms only itself."""
    async with (
        open_state(SlowDisk(takes_s=SAVING_S), NAME) as state,
        trio.open_nursery() as nursery,
    ):
        saver = StateSaver(state)
        nursery.start_soon(saver.run)
        saver.save("usdm", SOME)
        await trio.sleep(SAVING_S / 2)
        asked_at = trio.current_time()
        saver.save("usdm", MORE)
        assert await saver.saved()
        assert trio.current_time() - asked_at == 1.5 * SAVING_S
        assert await state.load() == {"usdm": MORE}
        nursery.cancel_scope.cancel(reason="the test is over")


async def test_a_cancelled_caller_still_learns_whether_its_change_is_saved(
    autojump_clock: MockClock,
) -> None:
    """What it answers afterwards is true."""
    async with (
        open_state(SlowDisk(takes_s=SAVING_S), NAME) as state,
        trio.open_nursery() as nursery,
    ):
        saver = StateSaver(state)
        nursery.start_soon(saver.run)
        saver.save("usdm", SOME)
        with trio.CancelScope() as caller:
            caller.cancel(reason="the client has hung up")
            assert await saver.saved()
        assert await state.load() == {"usdm": SOME}
        nursery.cancel_scope.cancel(reason="the test is over")


@pytest.mark.logs("subscriptions_not_saved")
async def test_the_saver_retries_until_the_disk_is_back(autojump_clock: MockClock) -> None:
    """Until then it reports after a second that the selection is not saved."""
    disk = MemoryDisk()
    async with open_state(disk, NAME) as state, trio.open_nursery() as nursery:
        saver = StateSaver(state)
        nursery.start_soon(saver.run)
        with disk.failing(Step.SYNC):
            saver.save("usdm", SOME)
            asked_at = trio.current_time()
            assert not await saver.saved()
            assert trio.current_time() - asked_at == SAVED_WITHIN_S
        while not await saver.saved():
            pass
        assert await state.load() == {"usdm": SOME}
        nursery.cancel_scope.cancel(reason="the test is over")


@pytest.mark.logs("subscriptions_not_saved")
async def test_the_saver_tries_once_more_at_its_end(autojump_clock: MockClock) -> None:
    """A full disk may have room by then, and it is the last attempt."""
    disk = MemoryDisk()
    async with open_state(disk, NAME) as state:
        async with trio.open_nursery() as nursery:
            saver = StateSaver(state)
            nursery.start_soon(saver.run)
            with disk.failing(Step.SYNC):
                saver.save("usdm", SOME)
                await trio.sleep(60)
            nursery.cancel_scope.cancel(reason="the agent stops")
        assert await state.load() == {"usdm": SOME}


async def test_without_a_file_nothing_is_saved(autojump_clock: MockClock) -> None:
    """And no call waits."""
    saver = StateSaver(None)
    await saver.run()
    saver.save("usdm", SOME)
    assert not await saver.saved()
