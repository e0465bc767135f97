"""What programs read of an agent: a process for each kind.

    python -m klineagent.bench.reading.loads LOAD

It reports `ready`, waits for a line on standard input, reads and reports `read` with the result.
"""

from __future__ import annotations

import gc
import signal
import sys

import msgspec
import trio

from klineagent.bench.child import FAILED, emit
from klineagent.bench.reading.closes import ClosesLoad
from klineagent.bench.reading.documents import DocumentsLoad, LeavingLoad
from klineagent.bench.reading.fan_out import FanOutLoad
from klineagent.bench.reading.http_client import HTTP_ERRORS
from klineagent.bench.reading.klines import KlinesLoad

Load = KlinesLoad | ClosesLoad | FanOutLoad | DocumentsLoad | LeavingLoad


async def _run(load: Load) -> None:
    # Garbage collection of everything imported would delay requests.
    gc.collect()
    gc.freeze()
    emit("ready")
    if await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
        try:
            emit("read", result=await load.run())
        except HTTP_ERRORS as error:
            emit(FAILED, error=repr(error))


def main() -> None:
    """Run the load given on the command line."""
    # Ctrl-C is for the parent process, which terminates this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    trio.run(_run, msgspec.json.decode(sys.argv[1], type=Load))


if __name__ == "__main__":
    main()
