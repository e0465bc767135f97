"""The address other machines reach this one at."""

from __future__ import annotations

import socket

from klineagent.core.address import Bind

# Reserved for documentation (RFC 5737): unassigned, but routed like any public address.
FOREIGN_ADDRESS = ("192.0.2.1", 9)
LOOPBACK = "127.0.0.1"
EVERYWHERE = frozenset({"0.0.0.0", "::"})  # noqa: S104 - nothing is bound here


def own_address(configured: str | None) -> str:
    """Return the configured address, else that of the default route's interface, else loopback."""
    return configured or _outgoing_address() or LOOPBACK


def page_url(bind: Bind, own: str, *, is_secure: bool) -> str:
    """Return where a browser finds what listens on `bind`, on a machine with the address `own`."""
    host = own if bind.host in EVERYWHERE else bind.host
    return f"http{'s' if is_secure else ''}://{Bind(host, bind.port)}/"


def _outgoing_address() -> str | None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Connecting a UDP socket picks a route, but sends nothing and does not block.
            probe.connect(FOREIGN_ADDRESS)
        except OSError:  # no route: the machine has no network
            return None
        address: str = probe.getsockname()[0]
        return address
