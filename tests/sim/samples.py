"""What tests of the twin share."""

from collections.abc import Awaitable, Callable

import trio_websocket

START_MS = 1_769_904_000_000  # 2026-02-01T00:00Z, a Sunday

Dial = Callable[[str], Awaitable[trio_websocket.WebSocketConnection]]
