"""The bus hands every kline to the writer and to live readers, none of which slows intake."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from klineagent.bus import Bus, Recent
from klineagent.core.kline import Kline
from klineagent.storage.writing.buffer import Conflation
from tests.klines import a_kline

Channel = tuple[trio.MemorySendChannel[list[Kline]], trio.MemoryReceiveChannel[list[Kline]]]


@pytest.fixture
def channel() -> Channel:
    """The writer's, with room for one list."""
    return trio.open_memory_channel[list[Kline]](1)


async def test_every_subscriber_gets_what_the_writer_gets(channel: Channel) -> None:
    """In the order of publishing, and from the moment of its subscription on."""
    send, receive = channel
    bus, reader = Bus(send), Recent(10)
    first, second, third = (a_kline(n) for n in range(3))
    await bus.publish([first])
    assert await receive.receive() == [first]
    with bus.subscribed(reader):
        await bus.publish([second])
        assert await receive.receive() == [second]
    await bus.publish([third])
    assert await reader.take() == [second]


async def test_a_reader_that_never_reads_slows_nobody(
    channel: Channel, autojump_clock: MockClock
) -> None:
    """It loses the oldest rows, and their number is known; no time passes for the publisher."""
    send, receive = channel
    bus, reader = Bus(send), Recent(3)
    rows = [a_kline(n) for n in range(10)]
    began = trio.current_time()
    with bus.subscribed(reader):
        for row in rows:
            await bus.publish([row])
            receive.receive_nowait()
    assert trio.current_time() == began
    assert reader.dropped == 7
    assert await reader.take() == rows[-3:]


async def test_a_conflating_reader_gets_the_newest_state(channel: Channel) -> None:
    """Of each candle the one that ranks highest, however many there were."""
    send, receive = channel
    bus, reader = Bus(send), Conflation(capacity=10, full_batch=10)
    states = [a_kline(is_closed=False, after_ms=after_ms) for after_ms in (1_000, 3_000, 2_000)]
    with bus.subscribed(reader):
        for state in states:
            await bus.publish([state])
            receive.receive_nowait()
    assert await reader.take(most=10, within_s=0) == (states[1],)


async def test_publishing_waits_for_the_writer_and_is_not_interrupted(
    channel: Channel, autojump_clock: MockClock
) -> None:
    """What the caller has accounted for arrives, though the caller is cancelled meanwhile."""
    send, receive = channel
    bus, reader = Bus(send), Recent(10)
    first, second = a_kline(0), a_kline(1)

    async def take_later() -> None:
        await trio.sleep(5)
        assert await receive.receive() == [first]

    with bus.subscribed(reader):
        await bus.publish([first])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(take_later)
            with trio.move_on_after(1):
                await bus.publish([second])
            assert trio.current_time() == 5
    assert receive.receive_nowait() == [second]
    assert await reader.take() == [first, second]


async def test_where_there_is_room_nothing_happens_meanwhile(channel: Channel) -> None:
    """Rows and what the caller does before and after are of one moment."""
    ran = []

    async def run() -> None:
        ran.append(True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await Bus(channel[0]).publish([a_kline()])
        assert not ran


async def test_a_reader_waits_until_there_is_something(
    channel: Channel, autojump_clock: MockClock
) -> None:
    """It wakes at the moment of publishing."""
    bus, reader = Bus(channel[0]), Recent(10)
    row = a_kline()

    async def publish_later() -> None:
        await trio.sleep(5)
        await bus.publish([row])

    with bus.subscribed(reader):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(publish_later)
            began = trio.current_time()
            assert await reader.take() == [row]
            assert trio.current_time() - began == 5


@pytest.mark.parametrize("is_full", [False, True])
async def test_a_fault_of_a_reader_loses_no_row(channel: Channel, *, is_full: bool) -> None:
    """The writer has it, whether its channel was full or not."""
    send, receive = channel
    bus, rows = Bus(send), [a_kline()]

    class Broken:
        def put(self, _: object) -> None:
            raise ZeroDivisionError

    async def take() -> None:
        while not taken or taken[-1] is not rows:
            taken.append(await receive.receive())

    taken: list[list[Kline]] = []
    if is_full:
        send.send_nowait([])
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(take)
            with bus.subscribed(Broken()), pytest.raises(ZeroDivisionError):
                await bus.publish(rows)
