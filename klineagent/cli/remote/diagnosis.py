"""Finds out what answers in an agent's place, and what to try instead."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import httpx2
import msgspec
from msgspec import Struct

from klineagent.api.models.data import Live
from klineagent.core.errors import UNREADABLE, reason_of

# For each probe of an unknown server: a user who mistyped the address waits for it.
LOOK_WITHIN_S = 2.0
COMMAND_PORT = 9999
"""The command API's default port."""
_CLOCKS = ("/fapi/v1/time", "/dapi/v1/time", "/api/v3/time")
"""The exchanges' time endpoints: USD-M, COIN-M, spot."""


class _Clock(Struct, frozen=True):
    """The answer of a time endpoint."""

    serverTime: int  # noqa: N815 - the exchange's name for it


async def why_no_answer(http: httpx2.AsyncClient, label: str, error: httpx2.HTTPError) -> str:
    """Explain why a call to `label` failed without an HTTP answer."""
    reason, url = reason_of(error), http.base_url
    if _is_about_trust(error):
        return (
            f"the certificate of {label} cannot be trusted: {reason}; give its CA certificate with"
            " --ca-file"
        )
    if _is_about_tls(error):
        if await _is_web(http, url.copy_with(scheme="http")):
            return f"the server at {label} does not speak TLS: use http://{_netloc(url)}"
        return f"the server at {label} is no agent, or TLS failed: {reason}"
    if isinstance(error, httpx2.ConnectError):
        return (
            f"no agent answers at {label}: {_last_part(reason)}; start one with"
            " `klineagent serve`, or say where it is with --agent"
        )
    if await _speaks_tls(http):
        return f"the server at {label} speaks TLS: use https://{_netloc(url)}"
    return f"the server at {label} is neither an agent nor a web server: {reason}; {_what_to_try()}"


async def is_status_server(http: httpx2.AsyncClient) -> bool:
    """Return whether it is an agent's status server, the only one that answers `/live`."""
    try:
        response = await _look(http, "/live")
        return response.is_success and msgspec.json.decode(response.content, type=Live) == Live()
    except (httpx2.HTTPError, *UNREADABLE):
        return False


def command_server_hint(http: httpx2.AsyncClient) -> str:
    """Say where to find the command API of an agent whose status server was called."""
    if http.base_url.port == COMMAND_PORT:
        return "the command API has another port: see `listening` in the agent's log"
    there = http.base_url.copy_with(port=COMMAND_PORT)
    return f"the command API has another port: try {there.scheme}://{_netloc(there)}"


async def what_it_is(http: httpx2.AsyncClient, response: httpx2.Response) -> str:
    """Describe the server behind a `response` that no agent gives, and what to try instead."""
    if await _tells_time(http):
        return f"an exchange, real or simulated; {_what_to_try()}"
    if http.base_url.scheme == "http" and await _speaks_tls(http):
        return f"a server that speaks TLS: use https://{_netloc(http.base_url)}"
    name = response.headers.get("Server", "")
    called = f" ({name})" if name else ""
    status = f"{response.status_code} {response.reason_phrase}"
    return f"a web server{called}, which answered {status}; {_what_to_try()}"


async def _look(http: httpx2.AsyncClient, url: httpx2.URL | str) -> httpx2.Response:
    request = http.build_request("GET", url, timeout=LOOK_WITHIN_S)
    # The server is unknown, and clear text can be read on the way: it must not get the token.
    request.headers.pop("Authorization", None)
    return await http.send(request)


def _is_about_trust(error: httpx2.HTTPError) -> bool:
    return any(isinstance(each, ssl.SSLCertVerificationError) for each in _causes(error))


def _is_about_tls(error: httpx2.HTTPError) -> bool:
    return any(isinstance(each, ssl.SSLError) for each in _causes(error))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


async def _speaks_tls(http: httpx2.AsyncClient) -> bool:
    try:
        await _look(http, http.base_url.copy_with(scheme="https"))
    except httpx2.HTTPError as error:
        return _is_about_trust(error)  # then TLS was spoken
    return True


async def _is_web(http: httpx2.AsyncClient, url: httpx2.URL) -> bool:
    try:
        await _look(http, url)
    except httpx2.HTTPError:
        return False
    return True


async def _tells_time(http: httpx2.AsyncClient) -> bool:
    for path in _CLOCKS:
        try:
            response = await _look(http, path)
            msgspec.json.decode(response.content, type=_Clock)
        except httpx2.HTTPError:
            return False  # it answered before and no longer does
        except UNREADABLE:
            continue
        return response.is_success
    return False


def _what_to_try() -> str:
    return f"--agent must be an agent's command API, by default http://HOST:{COMMAND_PORT}"


def _netloc(url: httpx2.URL) -> str:
    return url.netloc.decode()


def _last_part(reason: str) -> str:
    """Return the system's message; Trio puts the address in front, which is shown already."""
    return reason.rpartition(": ")[2]
