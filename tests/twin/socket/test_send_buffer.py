import trio

from klineagent.twin.socket import connection as outbox_module
from klineagent.twin.socket.connection import SendBuffer


async def test_bytes_come_out_in_order_and_together() -> None:
    """All buffered data is taken at once."""
    buffer = SendBuffer()
    assert buffer.put(b"one ")
    assert buffer.put(b"two")
    assert await buffer.take() == b"one two"


async def test_taking_waits_for_something(nursery: trio.Nursery) -> None:
    """The writer of an empty buffer waits until bytes come."""
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


async def test_a_closed_buffer_is_emptied_and_then_ends() -> None:
    """Buffered data is still taken, later data is dropped."""
    buffer = SendBuffer()
    buffer.put(b"last")
    buffer.close()
    buffer.put(b"too late")
    assert await buffer.take() == b"last"
    assert await buffer.take() == b""


async def test_the_callback_runs_when_the_buffer_is_empty() -> None:
    """It runs before the writer waits, not while there is data."""
    more = [b"third", b"second"]

    def fill() -> None:
        assert buffer.put(more.pop())

    buffer = SendBuffer(fill)
    buffer.put(b"first")
    assert [await buffer.take() for _ in range(3)] == [b"first", b"second", b"third"]


def test_the_buffer_is_bounded() -> None:
    """Data beyond the bound is refused as a whole."""
    buffer = SendBuffer()
    assert buffer.put(bytes(outbox_module._MOST_UNSENT_BYTES))
    assert not buffer.put(b"x")
