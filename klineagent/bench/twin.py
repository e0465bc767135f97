"""The exchange twin in a process of its own."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Mapping
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
    ws_urls: Mapping[str, str]
    """The prefixes before `/ws` and `/stream`, by venue."""
    rest_urls: Mapping[str, str]
    symbols: Mapping[str, tuple[str, ...]]
    """The symbols that are traded, by venue."""


@asynccontextmanager
async def open_twin(
    *options: str, symbols: Mapping[str, int], certificate: Certificate | None = None
) -> AsyncIterator[TwinProcess]:
    """Run a twin that trades so many `symbols` by venue while the block lasts.

    It serves TLS if given a certificate.
    """
    command = [
        *(sys.executable, "-m", "klineagent", "simulate", "--log-format", "json"),
        *("--bind", "127.0.0.1:0", "--venues", ",".join(symbols)),
        *("--symbols", ",".join(f"{venue}={count}" for venue, count in symbols.items()), *options),
        *(("--tls", str(certificate.identity)) if certificate else ()),
    ]
    async with open_child("the twin", command, reports_on="stderr") as child:
        events = [
            await child.event_within(READY_WITHIN_S, "exchange_twin", nth)
            for nth in range(len(symbols))
        ]
        yield TwinProcess(
            child=child,
            ws_urls={event["venue"]: event["ws_url"] for event in events},
            rest_urls={event["venue"]: event["rest_url"] for event in events},
            # Odd listings come after the ordinary ones.
            symbols={
                event["venue"]: tuple(event["symbols"][: symbols[event["venue"]]])
                for event in events
            },
        )
