import trio

from klineagent.twin.socket import connection as outbox_module
from klineagent.twin.socket.connection import SendBuffer


async def test_bytes_come_out_in_order_and_together() -> None:
    """What gathered is taken at once."""
    buffer = SendBuffer()
    assert buffer.put(b"one ")
    assert buffer.put(b"two")
    assert await buffer.take() == b"one two"


async def test_taking_waits_for_something(nursery: trio.Nursery) -> None:
    """An empty buffer holds its writer until bytes come."""
    buffer = SendBuffer()
    taken = []

    async def take() -> None:
        taken.append(await buffer.take())

    nursery.start_soon(take)
    await trio.testing.wait_all_tasks_blocked()
    assert not taken
    buffer.put(b"late")
    await trio.testing.wait_all_tasks_blocked()
    assert taken == [b"late"]


async def test_a_closed_outbox_is_emptied_and_then_ends() -> None:
    """What was there is still taken, what comes later is dropped."""
    buffer = SendBuffer()
    buffer.put(b"last")
    buffer.close()
    buffer.put(b"too late")
    assert await buffer.take() == b"last"
    assert await buffer.take() == b""


async def test_whoever_fills_it_is_asked_when_it_is_empty() -> None:
    """Before the writer waits, not while there is something to take."""
    more = [b"third", b"second"]

    def fill() -> None:
        assert buffer.put(more.pop())

    buffer = SendBuffer(fill)
    buffer.put(b"first")
    assert [await buffer.take() for _ in range(3)] == [b"first", b"second", b"third"]


def test_there_is_an_end_to_what_a_client_may_leave_unread() -> None:
    """Beyond the bound bytes are refused, and nothing of them is kept."""
    buffer = SendBuffer()
    assert buffer.put(bytes(outbox_module._MOST_UNSENT_BYTES))
    assert not buffer.put(b"x")
