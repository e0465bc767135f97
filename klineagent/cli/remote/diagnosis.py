"""Describes what answers in an agent's place, and says what to try instead."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import httpx2
import msgspec
import trio

from klineagent.api.models.reports import Live
from klineagent.core.errors import UNREADABLE, reason_of

LOOK_WITHIN_S = 2
COMMAND_PORT = 9999
"""The command API's default port."""
_WHAT_TO_TRY = (
    f"--agent must be an agent's command API, by default http://HOST:{COMMAND_PORT},"
    " or https://HOST:PORT if it has a certificate"
)


def why_no_answer(label: str, error: httpx2.HTTPError) -> str:
    """Explain why a call to `label` failed without an HTTP answer."""
    reason, causes = reason_of(error), list(_causes(error))
    if any(isinstance(each, ssl.SSLCertVerificationError) for each in causes):
        return (
            f"the certificate of {label} cannot be trusted: {reason}; give its CA certificate with"
            " --ca-file"
        )
    if any(isinstance(each, ssl.SSLError) for each in causes):
        plain = label.replace("https", "http", 1)
        return f"TLS with {label} failed: {reason}; use {plain} if the agent has no certificate"
    if isinstance(error, httpx2.ConnectError):
        # Trio puts the address in front of the system's message; it is shown already.
        return (
            f"no agent answers at {label}: {reason.rpartition(': ')[2]}; start one with"
            " `klineagent serve`, or say where it is with --agent"
        )
    if isinstance(error, httpx2.ReadError) or "disconnected" in reason:
        return (
            f"{label} closed the connection without an answer: it is stopping, or does not speak"
            f" HTTP: {_WHAT_TO_TRY}"
        )
    return f"the server at {label} does not speak HTTP: {reason.rstrip('.')}; {_WHAT_TO_TRY}"


async def is_status_server(http: httpx2.AsyncClient) -> bool:
    """Return whether it is an agent's status server, the only one that answers `/live`."""
    try:
        with trio.fail_after(LOOK_WITHIN_S):
            response = await http.get("/live")
        return response.is_success and msgspec.json.decode(response.content, type=Live) == Live()
    except (httpx2.HTTPError, trio.TooSlowError, *UNREADABLE):
        return False


def what_it_is(response: httpx2.Response) -> str:
    """Describe the server behind a `response` that no agent gives, and say what to try instead."""
    name = response.headers.get("Server", "")
    called = f" ({name})" if name else ""
    status = f"{response.status_code} {response.reason_phrase}"
    return f"a web server{called}, which answered {status}; {_WHAT_TO_TRY}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
