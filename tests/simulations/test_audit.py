"""Candles that the database does not have any more are found, fetched and written again."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager

import pytest
import trio
from trio.testing import MockClock

from klineagent.core.interval import MINUTE_MS, SECOND_MS, Interval, Run
from klineagent.core.kline import Kline
from klineagent.series.backfill import audit
from klineagent.series.backfill.audit import AGAIN_AFTER_S, PASS_S, SHARE
from klineagent.series.registry import Registry
from klineagent.storage.memory.disk import MemoryDisk, Step
from klineagent.storage.memory.store import MemoryStore
from klineagent.storage.store import Batch
from klineagent.testing.simulation import FEBRUARY_2026_MS, Simulation, open_simulation
from tests.simulations.asking import Asker
from tests.simulations.looking import DAY_S, HOUR_S, MINUTE_S, closed, logged, not_stored

FOUND_WITHIN_S = 2 * PASS_S + AGAIN_AFTER_S
"""A series whose turn is just over waits for the next pass but one."""
INTERVALS = (Interval.M1, Interval.M5)


def minutes(first: int, end: int) -> range:
    """The open times of minutes since the simulation began."""
    return range(
        FEBRUARY_2026_MS + first * MINUTE_MS, FEBRUARY_2026_MS + end * MINUTE_MS, MINUTE_MS
    )


def overlooked(simulation: Simulation) -> int:
    """How many candles the audit has found."""
    return simulation.agent.registry.context.tally.overlooked


@pytest.mark.logs("audit_finding")
async def test_rows_that_are_gone_are_written_again(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Within two passes, as repairs; it is logged once, and no other row is touched."""
    async with open_simulation(intervals=INTERVALS, history=0) as simulation:
        await trio.sleep(2 * HOUR_S)
        before = closed(simulation.store, "BTCUSDT", Interval.M1)
        gone = minutes(20, 25)

        def is_gone(kline: Kline) -> bool:
            return kline.symbol == "BTCUSDT" and kline.interval == "1m" and kline.open_time in gone

        with simulation.store.forgetting(is_gone):
            assert len(not_stored(simulation)) == len(gone)
        with trio.fail_after(FOUND_WITHIN_S):
            while not_stored(simulation):  # noqa: ASYNC110 - there is no event
                await trio.sleep(1)
        await trio.sleep(PASS_S)
        assert overlooked(simulation) == len(gone)
        [line] = logged(caplog, "audit_finding")
        assert (line["candles"], line["first"]) == (5, "2026-02-01T00:20:00+00:00")
        after = closed(simulation.store, "BTCUSDT", Interval.M1)[: len(before)]
        for old, new in zip(before, after, strict=True):
            if not is_gone(old):
                assert new == old
                continue
            assert new[4:13] == old[4:13]
            assert (old.source, new.source) == ("stream", "repair")
            assert new.version > old.version
        assert simulation.agent.registry.missing() == 0


@pytest.mark.logs("audit_finding")
async def test_a_closed_row_that_a_forming_one_outranks_is_written_above_it(
    autojump_clock: MockClock,
) -> None:
    """As agents before 0.2 stored them: the event time doubled, of a state that came late."""
    async with open_simulation(intervals=INTERVALS, history=0) as simulation:
        await trio.sleep(HOUR_S)
        stuck = closed(simulation.store, "ETHUSDT", Interval.M5)[3]
        late = stuck._replace(is_closed=False, version=(stuck.event_time + 10_000) << 1, close=1.0)
        await simulation.store.insert(Batch("old", (late,)))
        assert len(not_stored(simulation)) == 1
        with trio.fail_after(FOUND_WITHIN_S):
            while not_stored(simulation):  # noqa: ASYNC110 - there is no event
                await trio.sleep(1)
        healed = simulation.store.klines[stuck.key]
        assert healed.version > late.version
        assert (healed.source, healed.close) == ("repair", stuck.close)
        await trio.sleep(2 * PASS_S)
        assert overlooked(simulation) == 1


@pytest.mark.logs("audit_finding")
async def test_a_store_that_lost_everything_gets_everything(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """All candles of the ledger, found in one pass, though queries take seconds."""
    async with open_simulation(
        symbols=["BTCUSDT"], intervals=[Interval.M1], history=1200
    ) as simulation:
        await trio.sleep(HOUR_S)
        with simulation.store.forgetting(lambda _: True):
            pass
        with simulation.store.slow(1):
            await trio.sleep(FOUND_WITHIN_S)
        assert not_stored(simulation, since_ms=FEBRUARY_2026_MS - 1200 * MINUTE_MS) == []
        # Candles that closed just before are looked at in the next pass.
        found = [int(str(each["candles"])) for each in logged(caplog, "audit_finding")]
        assert found[0] > 1250
        assert found[1:] == [overlooked(simulation) - found[0]]
        assert simulation.agent.registry.missing() == 0


@pytest.mark.logs("audit_finding", "spool_unusable")
async def test_a_spool_that_never_empties_hides_nothing(autojump_clock: MockClock) -> None:
    """It cannot delete stored segments; few candles are looked for in them."""
    disk = MemoryDisk()
    async with open_simulation(intervals=INTERVALS, history=0, disk=disk) as simulation:
        await trio.sleep(HOUR_S)
        with disk.failing(Step.UNLINK):
            with simulation.store.offline():
                await trio.sleep(5 * MINUTE_S)
            await trio.sleep(5 * MINUTE_S)
            gone = minutes(20, 23)
            with simulation.store.forgetting(lambda kline: kline.open_time in gone):
                assert any(open_ms in gone for *_, open_ms in not_stored(simulation))
            await trio.sleep(FOUND_WITHIN_S + 6 * AGAIN_AFTER_S)
            # What the outage left waits behind the batch that cannot be deleted.
            assert not any(open_ms in gone for *_, open_ms in not_stored(simulation))
            assert not_stored(simulation)
        await trio.sleep(MINUTE_S)
        assert not_stored(simulation) == []


@pytest.mark.logs("audit_finding", "spool_unusable")
async def test_where_it_cannot_be_seen_what_is_missing_others_are_audited(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is logged, and once it can be seen, the missing candles are found."""
    monkeypatch.setattr(audit, "SEGMENTS_AT_ONCE", 0)  # as if the spool were large
    disk = MemoryDisk()
    async with open_simulation(intervals=INTERVALS, history=0, disk=disk) as simulation:
        await trio.sleep(HOUR_S + MINUTE_S / 2)
        with disk.failing(Step.UNLINK):
            with simulation.store.offline():
                await trio.sleep(MINUTE_S)
            await trio.sleep(5 * MINUTE_S)

            def is_gone(kline: Kline) -> bool:
                return kline.symbol == "ETHUSDT" and kline.open_time in minutes(21, 23)

            with simulation.store.forgetting(is_gone):
                pass
            await trio.sleep(2 * HOUR_S)
            assert overlooked(simulation) == 0
            assert logged(caplog, "audit_blind")
            now_ms = simulation.exchange.clock.now_ms()
            for each in simulation.agent.registry.subscriptions():
                assert each.audited_ms is not None
                is_recent = now_ms - each.audited_ms < FOUND_WITHIN_S * SECOND_MS
                assert is_recent == (each.stream_name != "ethusdt@kline_1m")
        await trio.sleep(FOUND_WITHIN_S)
        assert not_stored(simulation) == []
        assert logged(caplog, "audit_sees")


async def test_a_series_that_is_removed_during_its_audit_is_left_alone(
    autojump_clock: MockClock,
) -> None:
    """Nothing is logged of it, and nothing fetched."""
    store = RemovingStore()
    async with open_simulation(intervals=INTERVALS, history=0, store=store) as simulation:
        await trio.sleep(HOUR_S)
        store.registry = simulation.agent.registry
        with store.forgetting(lambda kline: kline.key[1:3] == ("BTCUSDT", "1m")):
            await trio.sleep(FOUND_WITHIN_S)
        assert store.removed
        assert overlooked(simulation) == 0


def _slow(store: MemoryStore) -> AbstractContextManager[None]:
    return store.slow(8)


@pytest.mark.parametrize(
    "trouble",
    [MemoryStore.offline, MemoryStore.overloaded, MemoryStore.losing_answers, _slow],
)
@pytest.mark.parametrize("spool", [True, False])
async def test_rows_on_their_way_are_no_finding(
    autojump_clock: MockClock, trouble: object, spool: bool
) -> None:
    """Neither while the store is unreachable nor while the spool is emptied into it."""
    async with open_simulation(
        intervals=INTERVALS, history=0, disk=MemoryDisk() if spool else None
    ) as simulation:
        for _ in range(4):
            await trio.sleep(20 * MINUTE_S)
            with trouble(simulation.store):  # type: ignore[operator]  # each is one
                await trio.sleep(25 * MINUTE_S)
        await trio.sleep(FOUND_WITHIN_S)
        assert overlooked(simulation) == 0
        assert not_stored(simulation) == []


@pytest.mark.logs("audit_finding", "segment_damaged")
async def test_what_a_damaged_file_of_the_spool_held_is_written_again(
    autojump_clock: MockClock,
) -> None:
    """The rows counted as kept; it is unknown which they were, but not what is missing."""
    disk = MemoryDisk()
    async with open_simulation(intervals=INTERVALS, history=0, disk=disk) as simulation:
        await trio.sleep(20 * MINUTE_S)
        with simulation.store.offline():
            await trio.sleep(20 * MINUTE_S)
            for path in disk.paths:
                if path.startswith("candles/"):
                    disk.damage(path, b"JUNK")
        await trio.sleep(MINUTE_S)
        assert len(not_stored(simulation)) > 50
        assert simulation.agent.registry.missing() == 0
        await trio.sleep(FOUND_WITHIN_S)
        assert not_stored(simulation) == []
        assert overlooked(simulation) > 50


class RemovingStore(MemoryStore):
    """A store that has a series removed while the audit queries the versions of its candles."""

    registry: Registry
    removed = 0

    async def highest_ranks(
        self, venue: str, symbol: str, interval: str, first_ms: int, end_ms: int
    ) -> Mapping[int, int]:
        """See `Store`."""
        await self.registry.remove(symbol, Interval(interval))
        self.removed += 1
        return await super().highest_ranks(venue, symbol, interval, first_ms, end_ms)


class CountingStore(MemoryStore):
    """A store that notes when the audit queries it."""

    def __init__(self) -> None:
        super().__init__()
        self.asked_at: list[float] = []

    async def stored_runs(
        self, venue: str, symbol: str, interval: str, first_ms: int, end_ms: int
    ) -> tuple[Run, ...]:
        """See `Store`."""
        self.asked_at.append(trio.current_time())
        return await super().stored_runs(venue, symbol, interval, first_ms, end_ms)


async def test_it_leaves_the_store_to_others(autojump_clock: MockClock) -> None:
    """It takes a fiftieth of the time, however slow the store is, and skips a failing one."""
    store = CountingStore()
    async with open_simulation(intervals=INTERVALS, history=0, store=store):
        await trio.sleep(HOUR_S)
        assert 0 < len(store.asked_at) <= HOUR_S / PASS_S * 6
        with store.slow(20):
            await trio.sleep(MINUTE_S)
            store.asked_at.clear()
            await trio.sleep(5 * HOUR_S)
            assert 5 <= len(store.asked_at) <= 5 * HOUR_S * SHARE / 20 + 1
        with store.offline():
            await trio.sleep(MINUTE_S)
            store.asked_at.clear()
            await trio.sleep(2 * HOUR_S)
            assert store.asked_at == []


async def test_the_time_of_the_last_audit_is_reported(autojump_clock: MockClock) -> None:
    """After the startup scan, then after each pass, and as a metric."""
    async with open_simulation(intervals=INTERVALS, history=0) as simulation:
        asker = Asker(simulation.agent, simulation.store)
        with simulation.store.offline():
            await trio.sleep(10)
            [coverage, *_] = (await asker.coverage()).values()
            assert coverage["audited"] is None
        await trio.sleep(30)
        first = {each["audited"] for each in (await asker.coverage()).values()}
        assert min(first) > "2026-02-01T00:00:10"
        for _ in range(6):
            await trio.sleep(DAY_S / 24)
            figures = (await asker.figures()).samples
            [(_, age_s)] = figures["klineagent_audit_age_seconds"]
            assert 0 <= age_s <= FOUND_WITHIN_S
        last = {each["audited"] for each in (await asker.coverage()).values()}
        assert min(last) > max(first)
        assert figures["klineagent_audit_findings_total"] == [({"venue": "usdm"}, 0)]
