"""Other exchange clients, each used as its own documentation shows.

Each function receives every kline of a `PeerTarget` and counts it, until its process ends. All
decode what they receive, into text, models or candles, as the library chooses.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NoReturn

import trio
from attrs import define, frozen
from msgspec import Struct

from klineagent.core.interval import Interval
from klineagent.exchange.venues import NAMES_PER_REQUEST
from klineagent.exchange.wire import stream_name, subscribe_request

# All clients support it, and with one interval each needs only one connection.
INTERVAL = Interval.M1
_SDK = "binance-sdk-derivatives-trading-usds-futures"


class PeerTarget(Struct, frozen=True, kw_only=True):
    """The address of the twin, and the symbols received from it."""

    host: str
    """Host and port."""
    symbols: tuple[str, ...]
    tls: bool = False
    """Whether to use TLS; the environment names the authority to trust, see `Certificate`."""

    @property
    def ws_url(self) -> str:
        """The prefix of websocket URLs."""
        return f"{'wss' if self.tls else 'ws'}://{self.host}"

    @property
    def rest_url(self) -> str:
        """The prefix of REST URLs."""
        return f"{'https' if self.tls else 'http'}://{self.host}"

    @property
    def streams(self) -> list[str]:
        """The names of the streams."""
        return [stream_name(symbol, INTERVAL) for symbol in self.symbols]

    @property
    def stream_url(self) -> str:
        """The websocket on which streams are subscribed by message."""
        return f"{self.ws_url}/market/stream"

    def requests(self) -> list[str]:
        """The messages that subscribe to all streams."""
        names = self.streams
        return [
            subscribe_request(names[first : first + NAMES_PER_REQUEST], number)
            for number, first in enumerate(range(0, len(names), NAMES_PER_REQUEST), start=1)
        ]


@define
class Count:
    """A counter of received klines."""

    messages: int = 0

    def note(self, *_: object) -> None:
        """Count one more; a callback that accepts any arguments."""
        self.messages += 1


@frozen
class Peer:
    """Another client: its name, its distribution and how it is used."""

    name: str
    distribution: str
    receive: Callable[[PeerTarget, Count], object]
    """Counts klines until its process ends."""

    @property
    def version(self) -> str | None:
        """The installed version; None if it is not installed."""
        try:
            return version(self.distribution)
        except PackageNotFoundError:
            return None


def trio_websocket(target: PeerTarget, count: Count) -> None:
    """Receive with trio-websocket and parse with the standard library's json."""
    from trio_websocket import open_websocket_url

    async def receive() -> NoReturn:
        async with open_websocket_url(target.stream_url) as socket:
            for request in target.requests():
                await socket.send_message(request)
            while True:
                json.loads(await socket.get_message())
                count.note()

    trio.run(receive)


def websockets_trio(target: PeerTarget, count: Count) -> None:
    """Receive with the Trio client of websockets and parse with the standard library's json."""
    from websockets.trio.client import connect

    async def receive() -> None:
        async with connect(target.stream_url, compression=None) as socket:
            for request in target.requests():
                await socket.send(request)
            while True:
                json.loads(await socket.recv())
                count.note()

    trio.run(receive)


def binance_sdk(target: PeerTarget, count: Count) -> None:
    """Receive with the exchange's SDK and start a task for each message, as most users do."""

    async def handle(_event: object) -> None:
        count.note()

    asyncio.run(_use_sdk(target, handle))


def old_agent(target: PeerTarget, count: Count) -> None:
    """Do what the previous agent did: the SDK, a task for each message, a thread for the insert."""

    def insert(_event: object) -> None:
        count.note()

    async def handle(event: object) -> None:
        await asyncio.to_thread(insert, event)

    asyncio.run(_use_sdk(target, handle))


async def _use_sdk(target: PeerTarget, handle: Callable[[object], Any]) -> NoReturn:
    from binance_common.configuration import ConfigurationWebSocketStreams
    from binance_sdk_derivatives_trading_usds_futures import DerivativesTradingUsdsFutures
    from binance_sdk_derivatives_trading_usds_futures.websocket_streams.models import (
        KlineCandlestickStreamsResponse,
    )

    tasks: set[asyncio.Task[None]] = set()

    def start(event: object) -> None:
        task = asyncio.create_task(handle(event))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    settings = ConfigurationWebSocketStreams(stream_url=target.ws_url)
    streams: Any = DerivativesTradingUsdsFutures(config_ws_streams=settings).websocket_streams
    connection = await streams.create_connection()
    # Subscribes to all streams at once: its method for one stream takes half a second a call.
    await connection.subscribe(target.streams, KlineCandlestickStreamsResponse, "market")
    for name in target.streams:
        connection.on("message", start, name)
    await _forever()


def cryptofeed(target: PeerTarget, count: Count) -> None:
    """Receive with cryptofeed, which parses into its own candles."""
    from cryptofeed import FeedHandler
    from cryptofeed.connection import RestEndpoint, Routes, WebsocketEndpoint
    from cryptofeed.defines import CANDLES
    from cryptofeed.exchanges import BinanceFutures

    class CryptofeedTwin(BinanceFutures):  # type: ignore[misc]  # untyped
        websocket_endpoints = [  # noqa: RUF012 - as its base has it
            WebsocketEndpoint(
                f"wss://{target.host}/market", options={"compression": None}, authentication=True
            )
        ]
        rest_endpoints = [  # noqa: RUF012
            RestEndpoint(target.rest_url, routes=Routes("/fapi/v1/exchangeInfo"))
        ]

        async def _ws_authentication(
            self, address: str, options: dict[str, Any]
        ) -> tuple[str, dict[str, Any]]:
            # The only hook where the address can be changed to one without TLS.
            return address.replace(f"wss://{target.host}", target.ws_url), options

    async def handle(_candle: object, _received_at: float) -> None:
        count.note()

    wanted = set(target.symbols)
    symbols = [name for name, symbol in CryptofeedTwin.symbol_mapping().items() if symbol in wanted]
    handler = FeedHandler(config={"log": {"disabled": True}, "uvloop": True})
    # It expects a current event loop, as older Pythons provided.
    asyncio.set_event_loop(asyncio.new_event_loop())
    handler.add_feed(
        CryptofeedTwin(
            symbols=symbols,
            channels=[CANDLES],
            candle_interval=INTERVAL.value,
            candle_closed_only=False,
            callbacks={CANDLES: handle},
        )
    )
    handler.run(install_signal_handlers=False)


def unicorn_binance(target: PeerTarget, count: Count) -> None:
    """Receive with unicorn-binance-websocket-api: dictionaries, passed to a callback."""
    from unicorn_binance_websocket_api import BinanceWebSocketApiManager

    def handle(event: dict[str, Any]) -> None:
        if "stream" in event:
            count.note()

    manager = BinanceWebSocketApiManager(
        exchange="binance.com-futures",
        websocket_base_uri=f"{target.ws_url}/",
        restful_base_uri=f"{target.rest_url}/",
        output_default="dict",
        warn_on_update=False,
        disable_colorama=True,
    )
    manager.create_stream(
        [f"kline_{INTERVAL.value}"], list(target.symbols), process_stream_data=handle
    )
    manager.join()


def ccxt_pro(target: PeerTarget, count: Count) -> None:
    """Receive with ccxt.pro, which parses into its own rows and keeps the newest of each symbol."""
    import ccxt.pro

    class CcxtTwin(ccxt.pro.binance):  # type: ignore[misc]  # untyped
        def handle_ohlcv(self, client: object, message: object) -> None:
            super().handle_ohlcv(client, message)
            count.note()

    async def receive() -> NoReturn:
        exchange = CcxtTwin(
            {
                # It ignores the authorities of OpenSSL and of the environment.
                "cafile": ssl.get_default_verify_paths().cafile,
                "options": {"defaultType": "swap", "fetchMarkets": {"types": ["linear"]}},
                "urls": {
                    "api": {
                        "fapiPublic": f"{target.rest_url}/fapi/v1",
                        "ws": {"linear": f"{target.ws_url}/ws"},
                    }
                },
            }
        )
        await exchange.load_markets()
        wanted = set(target.symbols)
        series = [
            [name, INTERVAL.value]
            for name, market in exchange.markets.items()
            if market["id"] in wanted
        ]
        while True:
            await exchange.watch_ohlcv_for_symbols(series)

    asyncio.run(receive())


def python_binance(target: PeerTarget, count: Count) -> None:
    """Receive with python-binance's multiplexed socket: dictionaries, with a queue long enough."""
    from binance import AsyncClient, BinanceSocketManager

    class TwinSocketManager(BinanceSocketManager):  # type: ignore[misc]  # untyped
        FSTREAM_URL = f"{target.ws_url}/"

    async def receive() -> NoReturn:
        # Not AsyncClient.create(): that requests the time from the real exchange.
        manager = TwinSocketManager(AsyncClient(), max_queue_size=1_000_000)
        async with manager.futures_multiplex_socket(target.streams) as socket:
            while True:
                await socket.recv()
                count.note()

    asyncio.run(receive())


async def _forever() -> NoReturn:
    while True:
        await asyncio.Event().wait()


PEERS = {
    peer.name: peer
    for peer in (
        Peer("trio-websocket, json", "trio-websocket", trio_websocket),
        Peer("websockets.trio, json", "websockets", websockets_trio),
        Peer("Binance SDK, task per message", _SDK, binance_sdk),
        Peer("the same, then a thread", _SDK, old_agent),
        Peer("cryptofeed", "cryptofeed", cryptofeed),
        Peer("unicorn-binance-websocket-api", "unicorn-binance-websocket-api", unicorn_binance),
        Peer("ccxt.pro", "ccxt", ccxt_pro),
        Peer("python-binance", "python-binance", python_binance),
    )
}
