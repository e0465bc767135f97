"""Decides which requests a server answers. Pure.

    a token is set       requests with `Authorization: Bearer TOKEN`; others get 401; readers
                         may send it as a password, as many clients take nothing but a URL
    none, on loopback    requests of this machine, except those of foreign web pages
    none, elsewhere      all requests if `--allow-anonymous`; otherwise the command server does not
                         start, and the status server answers its open paths only
    a token that reads   GET and HEAD on the command server; anything else gets 403

Files of the dashboard hold no data: they need no token, as a browser has none to send for them.
Health paths are open to all, but only authorized clients get details of what is wrong. The guard
reads the head of a request only: the body of an unauthorized request is neither awaited nor stored.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
from collections.abc import Mapping
from typing import Literal
from urllib.parse import urlsplit

from attrs import field, frozen

from klineagent.core.errors import Forbidden, RequestError, Unauthorized

OPEN_PATHS = frozenset({"/ping", "/live", "/ready"})
"""Paths of the status server that need no token."""
READING = frozenset({"GET", "HEAD"})
"""Methods that change nothing."""

Access = Literal["command", "read"]
"""What a client may do."""


@frozen(kw_only=True)
class RequestHead:
    """The parts of a request's head that a guard reads; an absent header is empty."""

    path: str
    method: str = "GET"
    authorization: str = ""
    host: str = ""
    origin: str = ""
    fetch_site: str = ""


def unread_head(path: bytes, headers: Mapping[bytes, bytes]) -> RequestHead:
    """Return the head of a GET request that no app has read."""

    def text(name: bytes) -> str:
        return headers.get(name, b"").decode("latin1")

    return RequestHead(
        path=path.decode("latin1"),
        authorization=text(b"authorization"),
        host=text(b"host"),
        origin=text(b"origin"),
        fetch_site=text(b"sec-fetch-site"),
    )


@frozen(kw_only=True)
class Guard:
    """The access rule of one server; without arguments every request passes."""

    token: bytes | None = field(default=None, repr=False)
    other_token: bytes | None = field(default=None, repr=False)
    """One that passes as well."""
    reading_token: bytes | None = field(default=None, repr=False)
    """One with which nothing can be changed."""
    has_page: bool = False
    """Whether the dashboard is served, to which files no token is sent."""
    takes_passwords: bool = False
    """Whether `Authorization: Basic` passes whose password is a token."""
    open_paths: frozenset[str] = frozenset()
    is_local: bool = False
    """Whether only this machine can reach the server."""
    is_closed: bool = False
    """Whether all but the open paths are refused."""

    @property
    def errors(self) -> list[type[RequestError]]:
        """The errors `check` may raise."""
        if self.token is not None:
            refuses = self.takes_passwords or self.reading_token is not None
            return [Unauthorized, Forbidden] if refuses else [Unauthorized]
        return [Forbidden] if self.is_closed or self.is_local else []

    def check(self, request: RequestHead) -> None:
        """Check that `request` may be answered.

        Raises:
            Unauthorized: the token is missing or wrong.
            Forbidden: the request is refused with or without a token.
        """
        if self.has_page and is_page(request.path):
            self._check_page(request)
        elif request.path not in self.open_paths:
            self._check_closed(request)

    def access(self, request: RequestHead) -> Access:
        """Return what the client of a request that passes may do."""
        if self.token is None:
            return "command"
        sent = _bearer_in(request)
        return "command" if self._is_of_commands(sent) else "read"

    def trusts(self, request: RequestHead) -> bool:
        """Return whether the client sent the token, or is on this machine and only it can connect.

        Other clients get no details from open paths.
        """
        try:
            self._check_closed(request)
        except RequestError:
            return False
        return self.token is not None or self.is_local

    def _check_closed(self, request: RequestHead) -> None:
        if self.token is not None:
            self._check_token(request)
        elif self.is_closed:
            raise Forbidden(
                "set a token (--token-file or KLINEAGENT_TOKEN), or start with --allow-anonymous"
            )
        elif self.is_local:
            _check_browser(request)

    def _check_page(self, request: RequestHead) -> None:
        # No `Sec-Fetch-Site`: a link to a view may be on any page, and may not be framed in one.
        if self.is_local:
            _check_host(request)
        _check_origin(request)

    def _check_token(self, request: RequestHead) -> None:
        sent = _bearer_in(request)
        if not sent and self.takes_passwords and (sent := _password_in(request)):
            # A browser sends it again by itself, on behalf of any web page.
            _check_browser_origin(request)
        if self._is_of_commands(sent):
            return
        if self.reading_token is None or not hmac.compare_digest(sent, self.reading_token):
            raise Unauthorized("Authorization: the bearer token is missing or wrong")
        if request.method not in READING:
            raise Forbidden(
                f"this token only reads: {request.method} needs the one of --token-file"
            )

    def _is_of_commands(self, sent: bytes) -> bool:
        # Compared in constant time: timing reveals nothing about the token.
        tokens = filter(None, (self.token, self.other_token))
        are_right = [hmac.compare_digest(sent, token) for token in tokens]
        return any(are_right)


def is_page(path: str) -> bool:
    """Return whether a file of the dashboard is at `path`."""
    return path == "/" or path.startswith("/dashboard/")


def _bearer_in(request: RequestHead) -> bytes:
    return _credentials(request, "bearer")


def _password_in(request: RequestHead) -> bytes:
    """Return the password of Basic credentials; empty if they are none."""
    try:
        sent = base64.b64decode(_credentials(request, "basic"), validate=True)
    except binascii.Error:
        return b""
    return sent.partition(b":")[2]


def _credentials(request: RequestHead, scheme: str) -> bytes:
    sent_by, _, sent = request.authorization.partition(" ")
    return sent.strip().encode("utf-8", "replace") if sent_by.lower() == scheme else b""


ANYONE = Guard()


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a server that listens on `host`."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost" or host.lower().endswith(".localhost")


def _check_browser(request: RequestHead) -> None:
    """Block CSRF (by `Origin`, `Sec-Fetch-Site`) and DNS rebinding (by `Host`).

    A browser on this machine sends requests on behalf of any web page. `Host` must be localhost or
    an IP address: a rebound name points here, too, but shows in `Host`.
    """
    _check_host(request)
    _check_browser_origin(request)


def _check_host(request: RequestHead) -> None:
    if request.host and not _is_of_this_machine(request.host):
        raise Forbidden("Host: must be localhost or an IP address")


def _check_origin(request: RequestHead) -> None:
    if request.origin and request.origin.lower().partition("://")[2] != request.host.lower():
        raise Forbidden("Origin: cross-origin requests are refused")


def _check_browser_origin(request: RequestHead) -> None:
    _check_origin(request)
    if request.fetch_site not in {"", "none", "same-origin"}:
        raise Forbidden("Sec-Fetch-Site: cross-origin requests are refused")


def _is_of_this_machine(host: str) -> bool:
    """Return whether a `Host` is localhost or an IP address, which cannot be rebound."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return is_loopback(host.rpartition(":")[0] or host)
    return True
