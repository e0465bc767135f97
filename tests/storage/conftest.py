"""One store of each kind, for the tests of what all of them promise."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from klineagent.storage.opening import AnyStore, open_store


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[AnyStore]:
    """The store at `store_url`, open."""
    async with open_store(store_url) as store:
        yield store
