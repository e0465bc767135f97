"""An address to listen on or to call."""

from __future__ import annotations

from typing import NamedTuple


class Bind(NamedTuple):
    """A host and a port; port 0 lets the system choose when listening."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
