import trio

from klineagent.twin.socket import connection as outbox_module
from klineagent.twin.socket.connection import Outbox


async def test_bytes_come_out_in_order_and_together() -> None:
    """What gathered is taken at once."""
    outbox = Outbox()
    assert outbox.put(b"one ")
    assert outbox.put(b"two")
    assert await outbox.take() == b"one two"


async def test_taking_waits_for_something(nursery: trio.Nursery) -> None:
    """An empty outbox holds its writer until bytes come."""
    outbox = Outbox()
    taken = []

    async def take() -> None:
        taken.append(await outbox.take())

    nursery.start_soon(take)
    await trio.testing.wait_all_tasks_blocked()
    assert not taken
    outbox.put(b"late")
    await trio.testing.wait_all_tasks_blocked()
    assert taken == [b"late"]


async def test_a_closed_outbox_is_emptied_and_then_ends() -> None:
    """What was there is still taken, what comes later is dropped."""
    outbox = Outbox()
    outbox.put(b"last")
    outbox.close()
    outbox.put(b"too late")
    assert await outbox.take() == b"last"
    assert await outbox.take() == b""


async def test_whoever_fills_it_is_asked_when_it_is_empty() -> None:
    """Before the writer waits, not while there is something to take."""
    more = [b"third", b"second"]

    def fill() -> None:
        assert outbox.put(more.pop())

    outbox = Outbox(fill)
    outbox.put(b"first")
    assert [await outbox.take() for _ in range(3)] == [b"first", b"second", b"third"]


def test_there_is_an_end_to_what_a_client_may_leave_unread() -> None:
    """Beyond the bound bytes are refused, and nothing of them is kept."""
    outbox = Outbox()
    assert outbox.put(bytes(outbox_module._MOST_UNSENT_BYTES))
    assert not outbox.put(b"x")
