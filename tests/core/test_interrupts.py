"""Ctrl-C while modules are imported."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from klineagent.core.interrupts import INTERRUPTED, deadly_interrupts

pytestmark = pytest.mark.slow

TIMEOUT_S = 60
# Runs a command and interrupts it as it begins to import a module.
_INTERRUPTED = """
import signal, sys
from klineagent.__main__ import main

class Interrupting:
    def find_spec(self, name, path, target=None):
        if name == module:
            signal.raise_signal(signal.SIGINT)

_, module, *arguments = sys.argv
sys.argv[1:] = arguments
sys.meta_path.insert(0, Interrupting())
main()
"""


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("klineagent.core.interrupts", ["--version"]),
        ("click", ["--version"]),
        ("klineagent.cli.remote.commands", ["status"]),
        ("klineagent.config.model", ["config", "show"]),
        ("klineagent.config.model", ["simulate"]),
        ("klineagent.agent", ["serve", "--store", "memory:"]),
        ("rich", ["simulate"]),
    ],
)
def test_while_modules_are_imported_it_ends_without_a_word(
    module: str, arguments: list[str]
) -> None:
    """Whichever module it is, there is no stack trace, and the exit code is that of Ctrl-C."""
    command = [sys.executable, "-c", _INTERRUPTED, module, *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (INTERRUPTED, "", "")


def test_while_an_agent_keeps_a_command_waiting() -> None:
    """The exit code is the same, with at most an empty line."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        command = [sys.executable, "-m", "klineagent", "status", "--agent", url]
        with (
            subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process,
            listener.accept()[0] as asked,
        ):
            assert asked.recv(1) == b"G"
            process.send_signal(signal.SIGINT)
            _, output = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, output.strip()) == (INTERRUPTED, "")


def test_afterwards_it_is_what_it_was() -> None:
    """Ctrl-C raises again; a process that ignores it still does."""
    for usual in (signal.default_int_handler, signal.SIG_IGN):
        before = signal.signal(signal.SIGINT, usual)
        try:
            with deadly_interrupts():
                inside = signal.getsignal(signal.SIGINT)
            assert signal.getsignal(signal.SIGINT) is usual
            assert (inside is usual) == (usual is signal.SIG_IGN)
        finally:
            signal.signal(signal.SIGINT, before)


def test_outside_the_main_thread_nothing_is_changed() -> None:
    """Ctrl-C does not arise there, and only the main thread may set handlers."""

    def inside() -> object:
        with deadly_interrupts():
            return signal.getsignal(signal.SIGINT)

    usual = signal.getsignal(signal.SIGINT)
    assert usual is signal.default_int_handler
    with ThreadPoolExecutor() as threads:
        assert threads.submit(inside).result() is usual
