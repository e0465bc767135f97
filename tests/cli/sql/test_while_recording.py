"""A folder is read while an agent records into it, as a user would."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pyarrow.parquet
import pytest
import trio
from attrs import frozen

from klineagent.core.interval import MINUTE_MS
from tests.processes import READY_WITHIN_S, running_agent, running_twin

pytest.importorskip("chdb")
pytestmark = pytest.mark.slow

HISTORY = 50
COUNT = "SELECT count() FROM klines_final WHERE symbol = 'BTCUSDT' AND interval = '1m'"


@frozen
class Recording:
    """A folder in use, and the options that say where its agent is."""

    folder: Path
    options: tuple[str, ...]

    def left_behind(self) -> list[str]:
        """What snapshots and engines have left."""
        return [
            *(each.name for each in (self.folder / "shadow").glob("klineagent_*")),
            *(each.name for each in (self.folder.parent / "tmp").iterdir()),
        ]


@pytest.fixture
async def recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Recording]:
    """Of a symbol at 1m and 5m, with some history."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    store = f"chdb://{tmp_path}/klines"
    options = ("--intervals", "1m,5m", "--history", str(HISTORY), "--updates")
    async with (
        running_twin("--speed", "10") as (_, twin),
        running_agent(twin, store, "BTCUSDT", options=options) as (_, listening),
    ):
        agent = f"http://{listening['command']}"
        with trio.fail_after(READY_WITHIN_S):
            await _history_fetched(agent)
        yield Recording(tmp_path / "klines", ("--store", store, "--agent", agent))


async def _history_fetched(agent: str) -> None:
    async with httpx2.AsyncClient(base_url=agent) as client:
        while True:
            series = (await client.get("/v1/coverage")).json()["series"]
            if len(series) == 2 and all(each["stored"] >= HISTORY for each in series):
                return
            await trio.sleep(0.1)


async def _run(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "klineagent", *arguments]
    with trio.fail_after(READY_WITHIN_S):
        return await trio.run_process(
            command, capture_stdout=True, capture_stderr=True, check=False
        )


async def test_a_folder_in_use_is_read(recording: Recording, tmp_path: Path) -> None:
    """By `sql`, `show` and `export`; nothing is left behind, and recording goes on."""
    counted = await _run("sql", COUNT, *recording.options, "--format", "TSV")
    assert (counted.returncode, counted.stderr) == (0, b"")
    assert int(counted.stdout) >= HISTORY

    text = "SELECT count() FROM kline_updates WHERE NOT is_closed"
    forming = await _run("sql", text, *recording.options, "--format", "TSV")
    assert int(forming.stdout) >= 1, "what was received is stored first"

    shown = await _run("show", "BTCUSDT", "1m", "--last", "3", *recording.options)
    assert (shown.returncode, shown.stderr) == (0, b"")
    assert b"BTCUSDT 1m on usdm" in shown.stdout

    out = tmp_path / "klines.parquet"
    exported = await _run(
        "export", "BTC*", "--intervals", "1m", "--out", str(out), *recording.options
    )
    assert exported.returncode == 0
    table = pyarrow.parquet.read_table(out)
    opens = table["open_time"].cast("int64").to_pylist()
    assert len(opens) >= int(counted.stdout)
    assert opens == sorted(set(opens))
    # On a busy machine a candle may be late, and then that is told.
    is_whole = len(opens) == (opens[-1] - opens[0]) // MINUTE_MS + 1
    assert (exported.stderr == b"") == is_whole
    assert recording.left_behind() == []


async def test_a_query_can_be_ended(recording: Recording) -> None:
    """Ctrl-C leaves nothing behind; what a killed one left goes with the next."""
    text = "SELECT count() FROM system.numbers"
    command = [sys.executable, "-m", "klineagent", "sql", text, *recording.options]
    temporary = recording.folder.parent / "tmp"
    for number in (signal.SIGINT, signal.SIGKILL):
        process = await trio.lowlevel.open_process(command, stderr=subprocess.PIPE)
        with trio.fail_after(READY_WITHIN_S):
            while not list(temporary.glob("*/store")):  # noqa: ASYNC110 - a folder has no event
                await trio.sleep(0.05)
            process.send_signal(number)
            await process.wait()
        if number is signal.SIGINT:
            assert process.returncode == 130
            assert recording.left_behind() == []
    for folder in temporary.iterdir():
        os.utime(folder, (time.time() - 100,) * 2)
    await _run("sql", "SELECT 1", *recording.options)
    assert list(temporary.iterdir()) == []

    store, agent = recording.options[1], recording.options[3]
    nobody = await _run("sql", "SELECT 1", "--store", store, "--agent", "http://127.0.0.1:1")
    assert nobody.returncode == 3
    assert b"is in use, and no agent answers at http://127.0.0.1:1" in nobody.stderr
    assert b"with --agent" in nobody.stderr

    there = [sys.executable, "-m", "klineagent", "sql", COUNT, "--agent", agent, "--format", "TSV"]
    default = await trio.run_process(there, capture_stdout=True, cwd=temporary)
    assert int(default.stdout) >= HISTORY, "without --store, it is the agent's"
