"""The process of one other client, which counts for itself.

    python -m klineagent.bench.peers.peer NAME PLACE WARM-UP SECONDS

It tells `measured`, or `failed`, on standard output and ends.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time

import msgspec
from msgspec import Struct

from klineagent.bench.child import FAILED, tell
from klineagent.bench.figures import MILLION
from klineagent.bench.peers.clients import PEERS, Count, Place

LOOK_EVERY_S = 0.05


class Effort(Struct, frozen=True, kw_only=True):
    """What a client did in its window."""

    seconds: float
    messages: int
    cpu_s: float

    @property
    def messages_per_s(self) -> float:
        """What it counted."""
        return self.messages / self.seconds

    @property
    def cpu_us_per_message(self) -> float | None:
        """CPU time a message."""
        return self.cpu_s / self.messages * MILLION if self.messages else None


def main() -> None:
    """Run the client that the command line names, and watch it from a thread."""
    name, place, warm_up, seconds = sys.argv[1:]
    # Ctrl-C is for whoever started this, and ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.disable(logging.CRITICAL)
    count = Count()
    # A thread that sleeps disturbs none of them, whatever they run on.
    watch = threading.Thread(
        target=_watch, args=(count, float(warm_up), float(seconds)), daemon=True
    )
    watch.start()
    try:
        PEERS[name].receive(msgspec.json.decode(place, type=Place), count)
    except ImportError as error:
        tell(FAILED, error=f"is not installed: {error}")
    except Exception as error:  # noqa: BLE001 - whatever a foreign library raises
        tell(FAILED, error=repr(error))
    else:
        tell(FAILED, error="it gave up")


def _watch(count: Count, warm_up_s: float, seconds: float) -> None:
    while not count.messages:
        time.sleep(LOOK_EVERY_S)
    time.sleep(warm_up_s)
    at, cpu_s, messages = time.perf_counter(), time.process_time(), count.messages
    time.sleep(seconds)
    effort = Effort(
        seconds=time.perf_counter() - at,
        messages=count.messages - messages,
        cpu_s=time.process_time() - cpu_s,
    )
    tell("measured", effort=effort)
    # They stop in many ways, and some do not.
    os._exit(0)


if __name__ == "__main__":
    main()
