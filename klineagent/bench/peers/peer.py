"""The process of one peer, which counts and times itself.

    python -m klineagent.bench.peers.peer NAME PLACE WARM-UP SECONDS

It reports `measured` or `failed` on standard output and ends.
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

from klineagent.bench.child import FAILED, emit
from klineagent.bench.figures import MILLION
from klineagent.bench.peers.clients import PEERS, Count, PeerTarget

LOOK_EVERY_S = 0.05


class Effort(Struct, frozen=True, kw_only=True):
    """What a peer received in its window, and the CPU time it took."""

    seconds: float
    messages: int
    cpu_s: float

    @property
    def messages_per_s(self) -> float:
        """Messages received a second."""
        return self.messages / self.seconds

    @property
    def cpu_us_per_message(self) -> float | None:
        """CPU microseconds per message."""
        return self.cpu_s / self.messages * MILLION if self.messages else None


def main() -> None:
    """Run the peer named on the command line, and measure it from a thread."""
    name, target, warm_up, seconds = sys.argv[1:]
    # Ctrl-C is for the parent process, which terminates this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.disable(logging.CRITICAL)
    count = Count()
    # A sleeping thread disturbs no client, whatever event loop it uses.
    watch = threading.Thread(
        target=_watch, args=(count, float(warm_up), float(seconds)), daemon=True
    )
    watch.start()
    try:
        PEERS[name].receive(msgspec.json.decode(target, type=PeerTarget), count)
    except ImportError as error:
        emit(FAILED, error=f"is not installed: {error}")
    except Exception as error:  # noqa: BLE001 - whatever a foreign library raises
        emit(FAILED, error=repr(error))
    else:
        emit(FAILED, error="it returned by itself")


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
    emit("measured", effort=effort)
    # Some clients cannot be stopped in any other way.
    os._exit(0)


if __name__ == "__main__":
    main()
