"""Where the read server listens; the default port is taken in all tests."""

from __future__ import annotations

import pytest

from klineagent.api.reading.server import open_read_listener
from klineagent.config.loading import load_config
from klineagent.config.model import DEFAULT_READ_BIND, Config
from klineagent.core.errors import StartError


@pytest.mark.logs("not_readable")
async def test_an_agent_goes_on_where_another_has_the_default_address() -> None:
    """Two agents on one machine start as they did before there was a read server."""
    async with open_read_listener(Config().read_bind) as listener:
        assert listener is None


async def test_an_address_that_was_given_stops_the_start() -> None:
    """Also the default one, if a user has written it."""
    given = load_config({"read_bind": str(DEFAULT_READ_BIND)}, {}, None).read_bind
    with pytest.raises(StartError, match=r"cannot listen on .*9977"):
        async with open_read_listener(given):
            pass


async def test_none_is_no_read_server() -> None:
    """And nothing to log."""
    given = load_config({"read_bind": "none"}, {}, None).read_bind
    async with open_read_listener(given) as listener:
        assert listener is None
