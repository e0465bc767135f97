"""Documents of many candles, and a client that leaves in the middle of one."""

from __future__ import annotations

import io
import time
from http import HTTPStatus
from itertools import cycle
from typing import Any

import h11
from msgspec import Struct

from klineagent.bench.reading.http_client import open_http_client

FORMATS = "arrow", "parquet"


class Documents(Struct, frozen=True, kw_only=True):
    """The documents that were read, each in full."""

    took_s: dict[str, list[float]]
    """By format, from the request to the last byte."""
    megabytes: dict[str, float]


class _Request(Struct, frozen=True, kw_only=True):
    """A request for the newest closed minutes of one series."""

    server: str
    """Address of the read server."""
    symbol: str
    candles: int

    def target(self, form: str) -> str:
        """Return the target of the request for a format."""
        return f"/v1/candles?symbol={self.symbol}&interval=1m&last={self.candles}&format={form}"


class DocumentsLoad(_Request, frozen=True, kw_only=True, tag=True):
    """Reads documents one after the other, the formats in turn."""

    seconds: float
    """Until then documents are begun; of each format one is read in any case."""

    async def run(self) -> Documents:
        """Read documents, and count their candles.

        Raises:
            h11.RemoteProtocolError: one is not whole.
        """
        took_s: dict[str, list[float]] = {form: [] for form in FORMATS}
        sizes: dict[str, float] = {}
        until = time.perf_counter() + self.seconds
        for form in cycle(FORMATS):
            if time.perf_counter() > until and all(took_s.values()):
                return Documents(took_s=took_s, megabytes=sizes)
            began_at = time.perf_counter()
            async with open_http_client(self.server) as client:
                answer = await client.get(self.target(form))
            took_s[form].append(round(time.perf_counter() - began_at, 3))
            sizes[form] = len(answer.body) / 1e6
            if answer.status != HTTPStatus.OK:
                raise h11.RemoteProtocolError(f"{form}: {answer.body[:200]!r}")
            if (rows := _rows(form, answer.body)) != self.candles:
                raise h11.RemoteProtocolError(f"{form}: {rows} candles of {self.candles}")
        raise AssertionError("there is no last format")


class LeavingLoad(_Request, frozen=True, kw_only=True, tag=True):
    """Begins to read a document and leaves."""

    async def run(self) -> float:
        """Return when the client left, in seconds since the epoch."""
        async with open_http_client(self.server) as client:
            await client.begin(self.target("arrow"))
            await client.part()
        return time.time()


def _rows(form: str, body: bytes) -> int:
    # The embedded engine brings it.
    import pyarrow.ipc
    import pyarrow.parquet

    source: Any = io.BytesIO(body)
    if form == "parquet":
        return int(pyarrow.parquet.ParquetFile(source).metadata.num_rows)
    return sum(batch.num_rows for batch in pyarrow.ipc.open_stream(source))
