"""What answers where an agent should, if it is none, and what to try instead."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import httpx2
import msgspec
from msgspec import Struct

from klineagent.api.models.data import Live
from klineagent.core.errors import UNREADABLE, reason_of

# Of each look at a stranger; whoever made a typing error waits for it.
LOOK_WITHIN_S = 2.0
COMMAND_PORT = 9999
"""Where agents take commands, unless --command-bind says otherwise."""
_CLOCKS = ("/fapi/v1/time", "/dapi/v1/time", "/api/v3/time")
"""Where exchanges tell the time: USD-M, COIN-M, spot."""


class _Clock(Struct, frozen=True):
    """What they answer."""

    serverTime: int  # noqa: N815 - their name for it


async def why_no_answer(http: httpx2.AsyncClient, label: str, error: httpx2.HTTPError) -> str:
    """Why a call has failed without an HTTP answer; `label` is what the address is called."""
    reason, url = reason_of(error), http.base_url
    if _is_about_trust(error):
        return (
            f"the certificate of {label} cannot be trusted: {reason}; name who vouches for it with"
            " --ca-file"
        )
    if _is_about_tls(error):
        if await _is_web(http, url.copy_with(scheme="http")):
            return f"what answers at {label} does not speak TLS: use http://{_netloc(url)}"
        return f"what answers at {label} is no agent, or speaks another TLS: {reason}"
    if isinstance(error, httpx2.ConnectError):
        return (
            f"no agent answers at {label}: {_last_part(reason)}; start one with"
            " `klineagent serve`, or say where it is with --agent"
        )
    if await _speaks_tls(http):
        return f"what answers at {label} speaks TLS: use https://{_netloc(url)}"
    return f"what answers at {label} is no agent, nor a web server: {reason}; {_what_to_try()}"


async def is_status_server(http: httpx2.AsyncClient) -> bool:
    """Whether it is the server of an agent that takes no commands; only that tells it is alive."""
    try:
        response = await _look(http, "/live")
        return response.is_success and msgspec.json.decode(response.content, type=Live) == Live()
    except (httpx2.HTTPError, *UNREADABLE):
        return False


def the_command_server(http: httpx2.AsyncClient) -> str:
    """Where to try instead of a status server."""
    if http.base_url.port == COMMAND_PORT:
        return "commands are taken at another port, which its log tells (`listening`)"
    there = http.base_url.copy_with(port=COMMAND_PORT)
    return f"commands are taken at another port: try {there.scheme}://{_netloc(there)}"


async def what_it_is(http: httpx2.AsyncClient, response: httpx2.Response) -> str:
    """What has given a `response` that no agent gives, and what to try instead."""
    if await _tells_time(http):
        return f"an exchange, or its twin; {_what_to_try()}"
    if http.base_url.scheme == "http" and await _speaks_tls(http):
        return f"a server that speaks TLS: use https://{_netloc(http.base_url)}"
    name = response.headers.get("Server", "")
    called = f" ({name})" if name else ""
    status = f"{response.status_code} {response.reason_phrase}"
    return f"a web server{called}, which says {status}; {_what_to_try()}"


async def _look(http: httpx2.AsyncClient, url: httpx2.URL | str) -> httpx2.Response:
    request = http.build_request("GET", url, timeout=LOOK_WITHIN_S)
    # Whoever answers may be anybody, and in clear text anybody may listen.
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
            return False  # it has answered before, and does not any more
        except UNREADABLE:
            continue
        return response.is_success
    return False


def _what_to_try() -> str:
    return f"--agent wants where commands are taken, http://HOST:{COMMAND_PORT} by default"


def _netloc(url: httpx2.URL) -> str:
    return url.netloc.decode()


def _last_part(reason: str) -> str:
    """What the system says; Trio puts the address in front of it, which has been told."""
    return reason.rpartition(": ")[2]
