"""A small archive and a client for it."""

import io
import re
import zipfile

import httpx2
from attrs import define

from klineagent.twin.interval import MINUTE_MS
from klineagent.twin.market.candle import Candle
from klineagent.twin.market.random import RandomMarket
from tests.twin.samples import START_MS

UM_1M = "data/futures/um/{}/klines/BTCUSDT/1m/BTCUSDT-1m-{}.zip"
NOON_MS = START_MS + 12 * 3_600_000
"""Noon of 2026-02-01: all files up to the end of January are published."""


class Client(httpx2.AsyncClient):
    """A client of an archive on a network in memory."""

    async def keys(self, prefix: str, **query: str) -> list[str]:
        """All keys and folders that listings with `prefix` name, page by page."""
        keys: list[str] = []
        while True:
            asked = {
                "prefix": prefix,
                "delimiter": "/",
                "marker": keys[-1] if keys else "",
                **query,
            }
            text = (await self.get("https://data.binance.vision/", params=asked)).text
            keys += re.findall("<Key>([^<]*)</Key>", text)
            keys += re.findall("<CommonPrefixes><Prefix>([^<]*)</Prefix>", text)
            if "<IsTruncated>true" not in text:
                return keys

    async def listed(self, path: str) -> str:
        """What a listing tells of a file, without its checksum."""
        text = (await self.get("https://data.binance.vision/", params={"prefix": path})).text
        return text.partition("</Contents>")[0]

    async def file(self, path: str) -> httpx2.Response:
        """The answer for a file."""
        return await self.get(f"https://data.binance.vision/{path}")

    async def lines(self, path: str) -> list[str]:
        """The lines of a zip's CSV."""
        return lines_of((await self.file(path)).raise_for_status().content)


def lines_of(content: bytes) -> list[str]:
    """The lines of the CSV in a zip."""
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        assert opened.testzip() is None
        return opened.read(opened.namelist()[0]).decode().splitlines()


@define(kw_only=True)
class PlainMarket(RandomMarket):
    """The symbols of a made-up market, with candles that cost next to nothing."""

    def minute(self, symbol: str, open_ms: int) -> Candle | None:
        """Prices go up and down a little; every minute has trades."""
        listing = self._walks[symbol].listing
        if not listing.onboard_ms <= open_ms < listing.delivery_ms:
            return None
        number = open_ms // MINUTE_MS
        price, volume = 100_000 + number * 37 % 1_009, 1_000 + number * 91 % 5_003
        return Candle(
            *(open_ms, price, price + 9, price - 9, price + 3),
            *(volume, volume * price, 100, volume // 3, volume // 3 * price),
            *(number * 100, number * 100 + 99),
        )
