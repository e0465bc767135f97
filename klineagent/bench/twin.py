"""The exchange twin in a process of its own."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from attrs import frozen

from klineagent.bench.certificate import Certificate
from klineagent.bench.child import Child, open_child

READY_WITHIN_S = 60
"""It makes its traffic before it trades."""


@frozen(kw_only=True)
class Twin:
    """A running twin."""

    child: Child
    ws_url: str
    """The prefix before `/ws` and `/stream`."""
    rest_url: str
    symbols: tuple[str, ...]


@asynccontextmanager
async def open_twin(
    *options: str, symbols: int, certificate: Certificate | None = None
) -> AsyncIterator[Twin]:
    """A twin that trades `symbols`, over TLS where there is a certificate, in the block."""
    command = [
        *(sys.executable, "-m", "klineagent", "simulate", "--log-format", "json"),
        *("--bind", "127.0.0.1:0", "--symbols", str(symbols), *options),
        *(("--tls", str(certificate.identity)) if certificate else ()),
    ]
    async with open_child("the twin", command, tells_on="stderr") as child:
        told = await child.told_within(READY_WITHIN_S, "exchange_twin")
        yield Twin(
            child=child,
            ws_url=told["ws_url"],
            rest_url=told["rest_url"],
            # After the ordinary ones come specimens.
            symbols=tuple(told["symbols"][:symbols]),
        )
