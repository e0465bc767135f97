"""Who may ask: whoever has the token, or anyone where that is safe or wished for.

    a token is set       `Authorization: Bearer TOKEN`, or 401
    none, on loopback    programs of this machine; web pages of others are turned away
    none, elsewhere      anyone if `--allow-anonymous`; else the command server does not start, and
                         the status server tells no more than that it lives

Signs of life are open to all; details of what is wrong are for those who could ask for more. The
guard looks at the head of a request only: nobody waits for, or stores, the body of a stranger.
"""

from __future__ import annotations

import hmac
import ipaddress
from urllib.parse import urlsplit

from attrs import field, frozen

from klineagent.core.errors import Forbidden, RequestError, Unauthorized

OPEN_PATHS = frozenset({"/ping", "/live", "/ready"})
"""What the status server answers to everybody."""
_SCHEME = "bearer "


@frozen(kw_only=True)
class RequestHead:
    """What a guard looks at; an absent header is empty."""

    path: str
    authorization: str = ""
    host: str = ""
    origin: str = ""
    fetch_site: str = ""


@frozen(kw_only=True)
class Guard:
    """The rule of one server; without arguments anyone may ask anything."""

    token: bytes | None = field(default=None, repr=False)
    open_paths: frozenset[str] = frozenset()
    is_local: bool = False
    """Whether only this machine can reach the server."""
    is_closed: bool = False
    """Whether nobody may ask for what is not open."""

    @property
    def errors(self) -> list[type[RequestError]]:
        """How it refuses, if it does."""
        if self.token is not None:
            return [Unauthorized]
        return [Forbidden] if self.is_closed or self.is_local else []

    def check(self, request: RequestHead) -> None:
        """Let `request` pass.

        Raises:
            Unauthorized: the token is missing or wrong.
            Forbidden: no token would help.
        """
        if request.path not in self.open_paths:
            self._check_closed(request)

    def trusts(self, request: RequestHead) -> bool:
        """Whether who asks has shown the token, or is on this machine, which alone can ask.

        Others learn from open paths no more than that something is wrong, and where.
        """
        try:
            self._check_closed(request)
        except RequestError:
            return False
        return self.token is not None or self.is_local

    def _check_closed(self, request: RequestHead) -> None:
        if self.token is not None:
            self._check_token(self.token, request.authorization)
        elif self.is_closed:
            raise Forbidden(
                "set a token (--token-file or KLINEAGENT_TOKEN), or start with --allow-anonymous"
            )
        elif self.is_local:
            _check_browser(request)

    @staticmethod
    def _check_token(token: bytes, authorization: str) -> None:
        scheme, given = authorization[: len(_SCHEME)], authorization[len(_SCHEME) :].strip()
        # Compared whole whatever the scheme is: how long it takes says nothing about the token.
        is_right = hmac.compare_digest(given.encode("utf-8", "replace"), token)
        if not is_right or scheme.lower() != _SCHEME:
            raise Unauthorized("Authorization: a bearer token is needed, and this is none of ours")


ANYONE = Guard()


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens on `host`."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost" or host.lower().endswith(".localhost")


def _check_browser(request: RequestHead) -> None:
    """Turn away web pages: a browser on this machine would carry out what any page tells it.

    A page of another origin sends `Origin` or `Sec-Fetch-Site`. One whose name has been pointed to
    this machine counts as ours, but betrays itself by that name in `Host`.
    """
    if request.host and not _is_of_this_machine(request.host):
        raise Forbidden("Host: only this machine may ask; call it localhost or by its address")
    if request.origin and request.origin.lower().partition("://")[2] != request.host.lower():
        raise Forbidden("Origin: web pages of others may not ask")
    if request.fetch_site not in {"", "none", "same-origin"}:
        raise Forbidden("Sec-Fetch-Site: web pages of others may not ask")


def _is_of_this_machine(host: str) -> bool:
    """Whether a `Host` is an address, which is no name to be pointed elsewhere, or localhost."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return is_loopback(host.rpartition(":")[0] or host)
    return True
