"""The exchange twin in a process of its own."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from attrs import frozen

from klineagent.bench.certificate import Certificate
from klineagent.bench.child import Child, open_child

READY_WITHIN_S = 60
"""The twin generates its traffic before it starts."""


@frozen(kw_only=True)
class TwinProcess:
    """A running twin and its addresses."""

    child: Child
    ws_url: str
    """The prefix before `/ws` and `/stream`."""
    rest_url: str
    symbols: tuple[str, ...]


@asynccontextmanager
async def open_twin(
    *options: str, symbols: int, certificate: Certificate | None = None
) -> AsyncIterator[TwinProcess]:
    """Run a twin that trades `symbols` while the block lasts, over TLS if given a certificate."""
    command = [
        *(sys.executable, "-m", "klineagent", "simulate", "--log-format", "json"),
        *("--bind", "127.0.0.1:0", "--symbols", str(symbols), *options),
        *(("--tls", str(certificate.identity)) if certificate else ()),
    ]
    async with open_child("the twin", command, reports_on="stderr") as child:
        event = await child.event_within(READY_WITHIN_S, "exchange_twin")
        yield TwinProcess(
            child=child,
            ws_url=event["ws_url"],
            rest_url=event["rest_url"],
            # Odd listings come after the ordinary ones.
            symbols=tuple(event["symbols"][:symbols]),
        )
