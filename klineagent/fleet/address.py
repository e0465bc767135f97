"""The address under which others reach this machine."""

from __future__ import annotations

import socket

# Reserved for documentation (RFC 5737): routed like any foreign address, and nobody's.
FOREIGN_ADDRESS = ("192.0.2.1", 9)
LOOPBACK = "127.0.0.1"


def own_address(configured: str | None) -> str:
    """The configured address, else that of the interface that reaches out, else loopback."""
    return configured or _outgoing_address() or LOOPBACK


def _outgoing_address() -> str | None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Connecting UDP picks a route and sends nothing, so it does not block either.
            probe.connect(FOREIGN_ADDRESS)
        except OSError:  # no route: the machine has no network
            return None
        address: str = probe.getsockname()[0]
        return address
