"""Other clients of the exchange, each used as its own documentation has it.

Each function receives every kline of `Place` and counts it, until its process ends. All decode what
they receive; what that is, text or model or candle, is the library's own choice.
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

# All of them have it; with one interval each of them gets along with one connection.
INTERVAL = Interval.M1
_SDK = "binance-sdk-derivatives-trading-usds-futures"


class Place(Struct, frozen=True, kw_only=True):
    """Where the twin is, and what is received from it."""

    host: str
    """With its port."""
    symbols: tuple[str, ...]
    tls: bool = False
    """The environment says whom to trust then; see `Certificate`."""

    @property
    def ws_url(self) -> str:
        """The prefix of what a socket is asked for."""
        return f"{'wss' if self.tls else 'ws'}://{self.host}"

    @property
    def rest_url(self) -> str:
        """The prefix of the REST paths."""
        return f"{'https' if self.tls else 'http'}://{self.host}"

    @property
    def streams(self) -> list[str]:
        """The names of the streams."""
        return [stream_name(symbol, INTERVAL) for symbol in self.symbols]

    @property
    def stream_url(self) -> str:
        """Where streams are asked for by message."""
        return f"{self.ws_url}/market/stream"

    def requests(self) -> list[str]:
        """The messages that ask for them."""
        names = self.streams
        return [
            subscribe_request(names[first : first + NAMES_PER_REQUEST], number)
            for number, first in enumerate(range(0, len(names), NAMES_PER_REQUEST), start=1)
        ]


@define
class Count:
    """How many klines have come."""

    messages: int = 0

    def note(self, *_: object) -> None:
        """One more; a callback for whatever a library gives."""
        self.messages += 1


@frozen
class Peer:
    """Another client: what it is called, what must be installed for it, how it is used."""

    name: str
    distribution: str
    receive: Callable[[Place, Count], object]
    """Counts klines until its process ends."""

    @property
    def version(self) -> str | None:
        """The version that is installed, if it is."""
        try:
            return version(self.distribution)
        except PackageNotFoundError:
            return None


def trio_websocket(place: Place, count: Count) -> None:
    """trio-websocket as it comes, and the standard library's json."""
    from trio_websocket import open_websocket_url

    async def receive() -> NoReturn:
        async with open_websocket_url(place.stream_url) as socket:
            for request in place.requests():
                await socket.send_message(request)
            while True:
                json.loads(await socket.get_message())
                count.note()

    trio.run(receive)


def websockets_trio(place: Place, count: Count) -> None:
    """Of websockets its Trio side, and the standard library's json."""
    from websockets.trio.client import connect

    async def receive() -> None:
        async with connect(place.stream_url, compression=None) as socket:
            for request in place.requests():
                await socket.send(request)
            while True:
                json.loads(await socket.recv())
                count.note()

    trio.run(receive)


def binance_sdk(place: Place, count: Count) -> None:
    """The exchange's SDK, and a task for each message, as most of its callers have it."""

    async def handle(_event: object) -> None:
        count.note()

    asyncio.run(_use_sdk(place, handle))


def old_agent(place: Place, count: Count) -> None:
    """What the agent before this one did: the SDK, a task for each message, a thread to insert."""

    def insert(_event: object) -> None:
        count.note()

    async def handle(event: object) -> None:
        await asyncio.to_thread(insert, event)

    asyncio.run(_use_sdk(place, handle))


async def _use_sdk(place: Place, handle: Callable[[object], Any]) -> NoReturn:
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

    settings = ConfigurationWebSocketStreams(stream_url=place.ws_url)
    streams: Any = DerivativesTradingUsdsFutures(config_ws_streams=settings).websocket_streams
    connection = await streams.create_connection()
    # What its method for one stream does, for all of them: each call takes half a second.
    await connection.subscribe(place.streams, KlineCandlestickStreamsResponse, "market")
    for name in place.streams:
        connection.on("message", start, name)
    await _forever()


def cryptofeed(place: Place, count: Count) -> None:
    """cryptofeed, parsed into its candles."""
    from cryptofeed import FeedHandler
    from cryptofeed.connection import RestEndpoint, Routes, WebsocketEndpoint
    from cryptofeed.defines import CANDLES
    from cryptofeed.exchanges import BinanceFutures

    class Twin(BinanceFutures):  # type: ignore[misc]  # untyped
        websocket_endpoints = [  # noqa: RUF012 - as its base has it
            WebsocketEndpoint(
                f"wss://{place.host}/market", options={"compression": None}, authentication=True
            )
        ]
        rest_endpoints = [  # noqa: RUF012
            RestEndpoint(place.rest_url, routes=Routes("/fapi/v1/exchangeInfo"))
        ]

        async def _ws_authentication(
            self, address: str, options: dict[str, Any]
        ) -> tuple[str, dict[str, Any]]:
            # The one place where an address may become a plain one.
            return address.replace(f"wss://{place.host}", place.ws_url), options

    async def handle(_candle: object, _received_at: float) -> None:
        count.note()

    wanted = set(place.symbols)
    symbols = [name for name, symbol in Twin.symbol_mapping().items() if symbol in wanted]
    handler = FeedHandler(config={"log": {"disabled": True}, "uvloop": True})
    # It expects one to be there, as there was in older Pythons.
    asyncio.set_event_loop(asyncio.new_event_loop())
    handler.add_feed(
        Twin(
            symbols=symbols,
            channels=[CANDLES],
            candle_interval=INTERVAL.value,
            candle_closed_only=False,
            callbacks={CANDLES: handle},
        )
    )
    handler.run(install_signal_handlers=False)


def unicorn_binance(place: Place, count: Count) -> None:
    """unicorn-binance-websocket-api with a callback, into dictionaries."""
    from unicorn_binance_websocket_api import BinanceWebSocketApiManager

    def handle(event: dict[str, Any]) -> None:
        if "stream" in event:
            count.note()

    manager = BinanceWebSocketApiManager(
        exchange="binance.com-futures",
        websocket_base_uri=f"{place.ws_url}/",
        restful_base_uri=f"{place.rest_url}/",
        output_default="dict",
        warn_on_update=False,
        disable_colorama=True,
    )
    manager.create_stream(
        [f"kline_{INTERVAL.value}"], list(place.symbols), process_stream_data=handle
    )
    manager.join()


def ccxt_pro(place: Place, count: Count) -> None:
    """ccxt.pro, parsed into its rows; a reader gets the newest of each symbol."""
    import ccxt.pro

    class Twin(ccxt.pro.binance):  # type: ignore[misc]  # untyped
        def handle_ohlcv(self, client: object, message: object) -> None:
            super().handle_ohlcv(client, message)
            count.note()

    async def receive() -> NoReturn:
        exchange = Twin(
            {
                # It asks neither OpenSSL nor the environment whom to trust.
                "cafile": ssl.get_default_verify_paths().cafile,
                "options": {"defaultType": "swap", "fetchMarkets": {"types": ["linear"]}},
                "urls": {
                    "api": {
                        "fapiPublic": f"{place.rest_url}/fapi/v1",
                        "ws": {"linear": f"{place.ws_url}/ws"},
                    }
                },
            }
        )
        await exchange.load_markets()
        wanted = set(place.symbols)
        series = [
            [name, INTERVAL.value]
            for name, market in exchange.markets.items()
            if market["id"] in wanted
        ]
        while True:
            await exchange.watch_ohlcv_for_symbols(series)

    asyncio.run(receive())


def python_binance(place: Place, count: Count) -> None:
    """python-binance's multiplexed socket, into dictionaries; its queue made long enough."""
    from binance import AsyncClient, BinanceSocketManager

    class Manager(BinanceSocketManager):  # type: ignore[misc]  # untyped
        FSTREAM_URL = f"{place.ws_url}/"

    async def receive() -> NoReturn:
        # Not AsyncClient.create(): that asks the real exchange for its time.
        manager = Manager(AsyncClient(), max_queue_size=1_000_000)
        async with manager.futures_multiplex_socket(place.streams) as socket:
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
