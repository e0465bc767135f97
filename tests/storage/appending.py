"""A process that appends to a spool until it is killed, and says after each batch that it is kept.

python -m tests.storage.appending FOLDER FIRST
"""

from __future__ import annotations

import sys
from itertools import count
from pathlib import Path

import trio

from klineagent.storage.spool.disk import Folder
from klineagent.storage.spool.spool import open_spool
from tests.storage.spools import NO_LIMIT, candles

ROWS = 100


async def _append(folder: Path, first: int) -> None:
    async with open_spool(Folder(folder), limit_bytes=NO_LIMIT) as spool:
        for number in count(first):
            await spool.append(candles(number, ROWS))
            sys.stdout.write(f"{number}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    trio.run(_append, Path(sys.argv[1]), int(sys.argv[2]))
