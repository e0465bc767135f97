"""One store of each kind, for tests of the common contract."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from klineagent.storage.opening import open_store
from klineagent.storage.store import Store


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    """The store at `store_url`, open."""
    async with open_store(store_url) as store:
        yield store
