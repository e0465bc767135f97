"""The gap file: known gaps survive the process."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, suppress
from random import Random

import pytest
import trio
from trio.testing import MockClock

from klineagent.core.errors import ConfigError
from klineagent.core.interval import MINUTE_MS, Interval
from klineagent.series.backfill.gap_file import EVERY_S, SOON_S, GapFile
from klineagent.series.backfill.known_gaps import (
    GapsByVenue,
    KnownGaps,
    SavedGaps,
    Series,
)
from klineagent.series.desired.state_file import StateFile
from klineagent.series.marks import Missing, Urgency
from klineagent.series.spans import Span
from klineagent.storage.memory.disk import MemoryDisk, ProcessDied, Step
from klineagent.storage.writing.writer import Writer
from klineagent.testing.simulation import FEBRUARY_2026_MS, Simulation, open_simulation
from tests.simulations.looking import HOUR_S, MINUTE_S, logged, not_stored

NAME = "subscriptions.json.gaps"
BTC = ("BTCUSDT", Interval.M1)


def a_file(disk: MemoryDisk) -> GapFile:
    """The gap file of simulations, on `disk`."""
    return GapFile(disk=disk, name=NAME, store="memory:")


async def saved(disk: MemoryDisk) -> Mapping[Series, KnownGaps]:
    """The saved gaps that are on `disk` now."""
    return (await a_file(disk.copy()).load()).of("usdm").gaps


def simulated(state: MemoryDisk) -> AbstractAsyncContextManager[Simulation]:
    """A series that runs, with its known gaps on `state`."""
    return open_simulation(symbols=["BTCUSDT"], intervals=[Interval.M1], state=state, history=0)


async def test_what_is_saved_survives_any_death() -> None:
    """The file has the old content or the new one, at whichever step the process dies."""
    old = GapsByVenue({"usdm": SavedGaps({BTC: KnownGaps(0, 1)})})
    gap = Span(1, 2, Missing(Urgency.FRESH))
    new = GapsByVenue({"usdm": SavedGaps({BTC: KnownGaps(0, 2, (gap,))})})
    for steps in range(8):
        disk = MemoryDisk()
        await a_file(disk).save(old)
        disk.die_after(steps)
        with suppress(ProcessDied):
            await a_file(disk).save(new)
        for left in (disk.kill(), disk.crash(Random(steps))):
            assert await a_file(left).load() in (old, new)


@pytest.mark.logs("gaps_unreadable")
async def test_a_file_that_cannot_be_read_is_set_aside(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is known then; the file is renamed, and the next save writes a new one."""
    disk = MemoryDisk()
    assert await a_file(disk).load() == GapsByVenue()
    assert logged(caplog, "gaps_unreadable") == []
    await a_file(disk).save(GapsByVenue())
    disk.damage(NAME, b'{"format": 1, "klineagent":')
    assert await a_file(disk).load() == GapsByVenue(is_whole=False)
    [line] = logged(caplog, "gaps_unreadable")
    assert "cannot be read" in str(line["error"])
    assert disk.paths == [f"{NAME}.unreadable"]
    await a_file(disk).save(GapsByVenue())
    with disk.failing(Step.READ):
        assert await a_file(disk).load() == GapsByVenue(is_whole=False)


async def test_a_file_of_a_newer_version_is_left_alone() -> None:
    """The start fails with a message that names the version that can read it."""
    disk = MemoryDisk()
    await a_file(disk).save(GapsByVenue())
    disk.damage(NAME, b'{"format": 7, "klineagent": "9.0"}')
    message = r"known gaps .*9\.0 wrote it \(format 7\).*move it away"
    with pytest.RaisesGroup(pytest.RaisesExc(ConfigError, match=message), flatten_subgroups=True):
        async with simulated(disk):
            pass
    assert NAME in disk.paths


@pytest.mark.parametrize(
    "label",
    [
        "clickhouse://db/market",
        "clickhouse://klines:***@db:9000",
        "clickhouse://db:9440/market?secure=1",
    ],
)
def test_another_login_to_the_same_database_keeps_the_gaps(label: str) -> None:
    """A new user, or TLS, does not make another store."""
    state = StateFile(MemoryDisk(), "subscriptions.json")
    assert GapFile.beside(state, store=label).store == "clickhouse://db/market"


async def test_the_times_are_saved_every_minute(autojump_clock: MockClock) -> None:
    """They never pass the last closed candle."""
    state = MemoryDisk()
    async with simulated(state) as simulation:
        await trio.sleep(10 * MINUTE_S)
        for _ in range(5):
            await trio.sleep(MINUTE_S)
            now_ms = simulation.exchange.clock.now_ms()
            known = (await saved(state))[BTC]
            assert now_ms - 2 * MINUTE_MS - EVERY_S * 1000 < known.until_ms <= now_ms
            assert known.gaps == ()


async def test_a_new_gap_is_saved_within_seconds(autojump_clock: MockClock) -> None:
    """With all rows that are not durable yet; healed gaps go with the next save."""
    state = MemoryDisk()
    async with simulated(state) as simulation:
        await trio.sleep(10 * MINUTE_S)
        [subscription] = simulation.agent.registry.subscriptions()
        with simulation.exchange.offline():
            old_ms = FEBRUARY_2026_MS + 2 * MINUTE_MS
            subscription.ledger.reopen(old_ms, now_ms=0)
            await trio.sleep(2 * SOON_S)
            assert Span(old_ms, old_ms + MINUTE_MS, Missing(Urgency.FRESH)) in (
                (await saved(state))[BTC].gaps
            )
        subscription.refetch(simulation.store.klines["usdm", "BTCUSDT", "1m", old_ms])
        await trio.sleep(2 * EVERY_S)
        assert (await saved(state))[BTC].gaps == ()


async def test_rows_that_wait_for_the_store_are_gaps_in_the_file(
    autojump_clock: MockClock,
) -> None:
    """Without a spool they are lost with the process; if no row waits, there are none."""
    state = MemoryDisk()
    async with simulated(state) as simulation:
        await trio.sleep(5 * MINUTE_S)
        with simulation.store.offline():
            await trio.sleep(10 * MINUTE_S)
            known = (await saved(state))[BTC]
            assert sum(Interval.M1.count(gap.first_ms, gap.end_ms) for gap in known.gaps) >= 8
            assert simulation.agent.registry.missing() == 0
        await trio.sleep(3 * MINUTE_S)
        assert (await saved(state))[BTC].gaps == ()


async def test_a_series_that_was_removed_is_remembered(autojump_clock: MockClock) -> None:
    """With the time up to which its ledger covered it."""
    state = MemoryDisk()
    async with simulated(state) as simulation:
        await trio.sleep(10 * MINUTE_S)
        await simulation.agent.desired.remove(*BTC)
        until_ms = (await saved(state))[BTC].until_ms
        await trio.sleep(HOUR_S)
        assert (await saved(state))[BTC].until_ms == until_ms
        await simulation.agent.desired.add(*BTC)
        await trio.sleep(3 * MINUTE_S)
        assert (await saved(state))[BTC].until_ms > until_ms + 50 * MINUTE_MS
        assert not_stored(simulation) == []


async def test_a_series_that_ends_during_a_save_stays_as_it_was_saved(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of it that are dropped from then on reopen nothing in its ledger."""
    state = MemoryDisk()
    async with simulated(state) as simulation:
        await trio.sleep(5 * MINUTE_S)
        before = (await saved(state))[BTC]
        monkeypatch.setattr(Writer, "at_risk", lambda _: None)
        await trio.sleep(2 * EVERY_S)
        await simulation.agent.desired.remove(*BTC)
        await trio.sleep(MINUTE_S)
        monkeypatch.undo()
        await trio.sleep(2 * EVERY_S)
        assert (await saved(state))[BTC] == before


@pytest.mark.logs("gaps_not_saved")
async def test_a_disk_that_fails_is_logged_and_disturbs_nothing(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged once; when the disk is back, the file is saved."""
    state = MemoryDisk()
    async with simulated(state) as simulation:
        await trio.sleep(3 * MINUTE_S)
        with state.full():
            await trio.sleep(10 * MINUTE_S)
        until_ms = (await saved(state))[BTC].until_ms
        await trio.sleep(3 * MINUTE_S)
        assert (await saved(state))[BTC].until_ms > until_ms + 10 * MINUTE_MS
        assert len(logged(caplog, "gaps_saved")) == 1
        [error] = {each["error"] for each in logged(caplog, "gaps_not_saved")}
        assert error == f"known gaps memory:/{NAME}: No space left on device"
        assert not_stored(simulation) == []
