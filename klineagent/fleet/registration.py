"""Registers the agent with a fleet manager."""

from __future__ import annotations

import httpx2
import msgspec
import structlog
import trio
from msgspec import Struct

from klineagent.core.address import Bind
from klineagent.core.errors import UNREADABLE
from klineagent.core.retry import Backoff

TRY_WITHIN_S = 10
BACKOFF_FIRST_S = 2.0
BACKOFF_MOST_S = 60.0

log = structlog.get_logger()


class _Reply(Struct):
    status: str


async def register(
    manager: Bind, agent: Bind, *, transport: httpx2.AsyncBaseTransport | None = None
) -> None:
    """Register `agent`, this agent's command address, with `manager`.

    It sends `POST /register` with `{"ip": ..., "port": ...}` until the fleet manager answers 200
    with `{"status": "ok"}`, however long that takes.
    """
    backoff = Backoff(first_s=BACKOFF_FIRST_S, most_s=BACKOFF_MOST_S)
    tries = 1
    # No proxies from the environment: fleet managers are on the same network. The deadline of a
    # call is set below.
    async with httpx2.AsyncClient(transport=transport, trust_env=False, timeout=None) as client:
        while (reason := await _refusal(client, manager, agent)) is not None:
            if tries == 1:
                log.warning("registration_failed", manager=str(manager), reason=reason)
            tries += 1
            await trio.sleep(backoff.after())
    log.info("registered", manager=str(manager), agent=str(agent), tries=tries)


async def _refusal(client: httpx2.AsyncClient, manager: Bind, agent: Bind) -> str | None:
    """Try once; return why the fleet manager did not accept, or None if it did."""
    with trio.move_on_after(TRY_WITHIN_S):
        try:
            response = await client.post(
                f"http://{manager}/register", json={"ip": agent.host, "port": agent.port}
            )
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            return f"{type(error).__name__}: {error}"
        return _reason_in(response)
    return f"no answer within {TRY_WITHIN_S} s"


def _reason_in(response: httpx2.Response) -> str | None:
    if response.status_code != httpx2.codes.OK:
        return f"answered {response.status_code}"
    try:
        status = msgspec.json.decode(response.content, type=_Reply).status
    except UNREADABLE as error:
        return f"answered 200 with an invalid body: {error}"
    return None if status == "ok" else f"answered status {status!r}"
