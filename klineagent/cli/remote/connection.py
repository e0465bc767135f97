"""Calls to a running agent, and errors that say what to do when one fails."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

import httpx2
import msgspec
import trio
from attrs import field, frozen
from msgspec import Struct

from klineagent.api.models.contract import Error
from klineagent.cli.remote.diagnosis import (
    COMMAND_PORT,
    is_status_server,
    what_it_is,
    why_no_answer,
)
from klineagent.core.errors import (
    UNREADABLE,
    AgentDenied,
    AgentRefused,
    AgentUnreachable,
    ConfigError,
)
from klineagent.storage.url import masked

QUERY_WITHIN_S = 10
COMMAND_WITHIN_S = 35
"""Agents answer commands within 30 s, even if the exchange has not confirmed by then."""
_UNAUTHORIZED = 401
_DENIED = frozenset({_UNAUTHORIZED, 403})
_NOT_FOUND = 404

_Model = TypeVar("_Model", bound=Struct)


@frozen(kw_only=True)
class Address:
    """An agent's URL, and the credentials for it."""

    url: str
    token: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    """The CA certificates its own must chain to, if not the system's."""

    @property
    def label(self) -> str:
        """The URL without a password, safe to print."""
        return masked(self.url)


@frozen
class AgentAnswer(Generic[_Model]):
    """An agent's answer: decoded, and as bytes."""

    value: _Model
    body: bytes
    """The JSON as it was received."""


@frozen
class AgentConnection:
    """Calls one agent; each call raises an `AgentError` unless it succeeds."""

    address: Address
    _http: httpx2.AsyncClient

    async def get(
        self,
        model: type[_Model],
        path: str,
        *,
        query: Mapping[str, str | int] | None = None,
        within_s: float = QUERY_WITHIN_S,
    ) -> AgentAnswer[_Model]:
        """GET `path`, and decode the answer as a `model`."""
        return await self._call(model, within_s, "GET", path, params=query)

    async def command(
        self,
        model: type[_Model],
        method: str,
        path: str,
        body: object,
        *,
        query: Mapping[str, str | int] | None = None,
    ) -> AgentAnswer[_Model]:
        """Send a command with `body` as JSON, and decode the answer as a `model`."""
        content = msgspec.json.encode(body)
        return await self._call(
            model, COMMAND_WITHIN_S, method, path, content=content, params=query
        )

    async def _call(
        self, model: type[_Model], within_s: float, method: str, path: str, **request: Any
    ) -> AgentAnswer[_Model]:
        label = self.address.label
        try:
            with trio.fail_after(within_s):
                response = await self._http.request(method, path, **request)
        except trio.TooSlowError as error:
            raise AgentUnreachable(
                f"the agent at {label} did not answer within {within_s:g} s; is it overloaded, or"
                " is --agent the address of another server?"
            ) from error
        except httpx2.HTTPError as error:
            raise AgentUnreachable(why_no_answer(label, error)) from error
        if not response.is_success:
            raise await self._refusal(path, response)
        try:
            return AgentAnswer(msgspec.json.decode(response.content, type=model), response.content)
        except msgspec.ValidationError as error:
            raise AgentRefused(
                f"the server at {label} is no agent, or one of another version: {path}: {error}"
            ) from error
        except UNREADABLE:
            raise self._no_agent(response) from None

    async def _refusal(self, path: str, response: httpx2.Response) -> AgentDenied | AgentRefused:
        """Return the error for a response that is no success."""
        label = self.address.label
        try:
            reason = msgspec.json.decode(response.content, type=Error).error
        except UNREADABLE:
            return self._no_agent(response)
        has_no_such_path = response.status_code == _NOT_FOUND and reason.startswith("Not Found")
        is_denied = response.status_code in _DENIED
        if (has_no_such_path or is_denied) and await is_status_server(self._http):
            return AgentRefused(
                f"the server at {label} is an agent's status server; the command API has another"
                f" port, by default {COMMAND_PORT}"
            )
        if response.status_code == _UNAUTHORIZED and self.address.token is None:
            return AgentDenied(
                f"the agent at {label} requires a token: set KLINEAGENT_TOKEN, or give a file with"
                " --token-file"
            )
        if is_denied:
            return AgentDenied(
                f"the agent at {label} denied access: {reason}; set its token in KLINEAGENT_TOKEN,"
                " or give a file with --token-file"
            )
        if has_no_such_path:
            has_path = bool(self._http.base_url.path.strip("/"))
            reason = (
                "leave the path out" if has_path else "it is older than this command; upgrade it"
            )
            return AgentRefused(f"the agent at {label} has no {path}: {reason}")
        return AgentRefused(reason)

    def _no_agent(self, response: httpx2.Response) -> AgentRefused:
        found = what_it_is(response)
        return AgentRefused(f"the server at {self.address.label} is no agent but {found}")


@asynccontextmanager
async def open_connection(address: Address) -> AsyncIterator[AgentConnection]:
    """Open a client of the agent at `address`; it connects on its first call.

    Raises:
        ConfigError: `ca_file` holds no certificates.
    """
    headers = {"Content-Type": "application/json"}
    if address.token is not None:
        headers["Authorization"] = f"Bearer {address.token}"
    async with httpx2.AsyncClient(
        base_url=address.url,
        headers=headers,
        verify=_trusted(address.ca_file),
        timeout=None,  # each call has one deadline for all of it
        trust_env=False,  # a proxy of the environment is for the web, not for an agent
    ) as http:
        yield AgentConnection(address, http)


def _trusted(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # ssl.SSLError is one, too
        reason = error.strerror or error
        raise ConfigError(f"--ca-file: no certificates in {ca_file}: {reason}") from error
