"""What a stream event costs with many clients: CPU time of the hub a message.

    python -m tests.bench_streams [CLIENTS [STREAMS [ROWS]]]

Events of STREAMS series are published once a second, ROWS at a time and evenly spread over it; each
client listens to all. The clients are a process of their own.
"""

from __future__ import annotations

import multiprocessing
import selectors
import socket
import sys
import time
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import Any, cast

import trio
from wsproto.connection import Connection as Wsproto
from wsproto.connection import ConnectionType

from klineagent.bus import Bus
from klineagent.core.kline import Kline, version_of
from klineagent.exchange.venues import USDM
from klineagent.reading.streams.events import EventFormat
from klineagent.reading.streams.hub import StreamHub, open_streams
from klineagent.reading.streams.path import read_path
from klineagent.reading.streams.socket import StreamSocket
from klineagent.series.venues import Venues
from tests.klines import a_kline

LASTS_S = 6


def _clients(address: tuple[str, int], clients: int, told: Connection) -> None:
    """Read whatever comes; tell the number of bytes at the end."""
    selector = selectors.DefaultSelector()
    for _ in range(clients):
        selector.register(socket.create_connection(address), selectors.EVENT_READ)
    taken, buffer = 0, bytearray(1 << 20)
    while selector.get_map():
        for key, _ in selector.select():
            client = cast("socket.socket", key.fileobj)
            size = client.recv_into(buffer)
            taken += size
            if not size:
                selector.unregister(client)
                client.close()
    told.send(taken)


def _rows(streams: int) -> tuple[list[Kline], list[bytes]]:
    now_ms = int(time.time() * 1000)
    rows = [
        a_kline(is_closed=False)._replace(
            symbol=f"COIN{number}USDT",
            event_time=now_ms,
            version=version_of(now_ms, 2 * now_ms, is_closed=False),
        )
        for number in range(streams)
    ]
    text = EventFormat.of(None, USDM)
    frames = [
        b'{"stream":"%b@kline_1m","data":%b}'
        % (row.symbol.lower().encode(), text.text(row, is_continuous=False))
        for row in rows
    ]
    return rows, frames


async def measure(clients: int, streams: int, at_once: int) -> None:
    """Print the cost of a message."""
    registry = SimpleNamespace(subscription=lambda *_: SimpleNamespace(newest=None))
    running = SimpleNamespace(registry=registry, context=SimpleNamespace(book=None))
    venues: Any = SimpleNamespace(get=lambda _name: running, default=USDM)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    theirs, ours = multiprocessing.Pipe()
    address = listeners[0].socket.getsockname()
    child = multiprocessing.get_context("spawn").Process(
        target=_clients, args=(address, clients, ours)
    )
    child.start()
    send, receive = trio.open_memory_channel[list[Kline]](0)
    bus = Bus(send)
    async with open_streams(cast("Venues", venues)) as hub, trio.open_nursery() as nursery:
        with bus.followed(hub):
            nursery.start_soon(_drain, receive)
            nursery.start_soon(trio.serve_listeners, _serving(hub, streams), listeners)
            while hub.counts.clients < clients:  # noqa: ASYNC110
                await trio.sleep(0.05)
            await trio.sleep(0.5)
            rows, frames = _rows(streams)
            spent = await _spent(bus, rows, frames, at_once)
            messages = clients * streams * LASTS_S
            print(
                f"{clients} clients, {streams} streams, {at_once} at a time:"
                f" {messages / LASTS_S:,.0f} messages a second,"
                f" {spent / messages * 1e6:.2f} us each, {spent / LASTS_S:.0%} of a core"
            )
        nursery.cancel_scope.cancel()
    child.join()
    print(f"{theirs.recv() / 1e6:,.0f} MB taken")


async def _drain(receive: trio.MemoryReceiveChannel[list[Kline]]) -> None:
    async for _ in receive:
        pass


def _serving(hub: StreamHub, streams: int) -> Any:
    names = "/".join(f"coin{number}usdt@kline_1m" for number in range(streams))

    async def serve(stream: trio.SocketStream) -> None:
        socket = StreamSocket(
            stream=stream,
            wsproto=Wsproto(ConnectionType.SERVER),
            hub=hub,
            path=read_path(f"/usdm/stream?streams={names}"),
        )
        with hub.reserved():
            await socket.serve()

    return serve


async def _spent(bus: Bus, rows: list[Kline], frames: list[bytes], at_once: int) -> float:
    """Publish for a while; return the CPU time that it took."""
    begins_at, before = trio.current_time(), time.process_time()
    turns = range(0, len(rows), at_once)
    for second in range(LASTS_S):
        rows = [row._replace(version=row.version + 1) for row in rows]
        for turn, at in enumerate(turns):
            await bus.publish(rows[at : at + at_once], frames[at : at + at_once])
            await trio.sleep_until(begins_at + second + (turn + 1) / len(turns))
    return time.process_time() - before


if __name__ == "__main__":
    clients, streams, at_once = [*map(int, sys.argv[1:]), *(100, 80, 1)[len(sys.argv) - 1 :]]
    trio.run(measure, clients, streams, at_once)
