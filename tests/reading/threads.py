"""Work of threads, done at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio


async def at_once(act: Callable[..., Any], *args: Any) -> Any:
    """Do what `trio.to_thread.run_sync` does, for which a virtual clock would not wait."""
    await trio.lowlevel.checkpoint()
    return act(*args)
