"""python-binance's sockets get USD-M and spot candles from klineagent as they form."""

import asyncio
import sys
from datetime import UTC, datetime

from binance import AsyncClient, BinanceSocketManager
from binance.enums import ContractType

base = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:9977"


class Agent(AsyncClient):  # type: ignore[misc]
    """A client of klineagent instead of the exchange."""

    API_URL = f"{base}/api"
    FUTURES_URL = f"{base}/fapi"


class AgentSockets(BinanceSocketManager):  # type: ignore[misc]
    """Sockets of klineagent instead of the exchange's."""

    STREAM_URL = FSTREAM_URL = f"{base.replace('http', 'ws', 1)}/"


async def main() -> None:
    client = await Agent.create()
    sockets = AgentSockets(client)
    for name, socket in (
        ("USD-M", sockets.kline_futures_socket("BTCUSDT", contract_type=ContractType.PERPETUAL)),
        ("spot", sockets.kline_socket("BTCUSDT")),
    ):
        async with socket as stream:
            is_closed = False
            while not is_closed:
                candle = (await stream.recv())["k"]
                print(name, datetime.fromtimestamp(candle["t"] / 1_000, UTC), candle["c"])
                is_closed = candle["x"]
    await client.close_connection()


asyncio.run(main())
