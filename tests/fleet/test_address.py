from __future__ import annotations

import ipaddress
import socket

import pytest

from klineagent.fleet import address
from klineagent.fleet.address import own_address


def test_the_configured_address_wins() -> None:
    """A configured address is taken as it is."""
    assert own_address("203.0.113.7") == "203.0.113.7"


def test_the_address_is_one_of_ours() -> None:
    """What is found can be bound to, so it belongs to this machine."""
    found = own_address(None)
    assert not ipaddress.ip_address(found).is_unspecified
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((found, 0))


def test_loopback_where_nothing_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a route to the outside the address is loopback."""
    # Broadcast is refused as a route is that does not exist: by an OSError.
    monkeypatch.setattr(address, "FOREIGN_ADDRESS", ("255.255.255.255", 9))
    assert own_address(None) == "127.0.0.1"
