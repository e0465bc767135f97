"""The Python interpreter of a process that must answer at once while it works."""

from __future__ import annotations

import gc
import sys

# A worker thread that runs Python keeps the event loop waiting so long after each of its system
# calls: 20 sockets beside such a thread took 170 ms at Python's own 5 ms, and 40 ms at this.
SWITCH_EVERY_S = 0.0005


def answer_promptly() -> None:
    """Keep pauses of the event loop short, once everything is loaded.

    Some hundred thousand objects stay loaded: scanning them for garbage would stop the process for
    tens of milliseconds each time.
    """
    sys.setswitchinterval(SWITCH_EVERY_S)
    gc.collect()
    gc.freeze()
