"""Jobs of real processes: commands, a real database, a kill in the middle."""

from __future__ import annotations

import signal
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio

from klineagent.core.interval import Interval
from klineagent.storage.opening import open_store
from tests.cli.typed import typed_aside
from tests.processes import running_agent, running_twin

pytest.importorskip("chdb")

WITHIN_S = 60
PAST = ("--symbols", "2", "--speed", "1", "--start", "2026-02-01T12:00:00", "--since", "2025-12-24")


async def test_an_agent_imports_into_the_folder_that_it_records_into(tmp_path: Path) -> None:
    """Killed in the middle, it goes on after its next start, and every candle is there once."""
    store = f"chdb://{tmp_path}/data"
    names = ("BTCUSDT", "ETHUSDT", "--intervals", "30m,1h,2h")
    async with running_twin(*PAST) as (_, twin):
        options = [
            *("--archive-url", str(twin["archive_url"]), "--intervals", "1m", "--history", "5"),
            *("--state", str(tmp_path / "state.json")),
        ]
        agent = partial(running_agent, twin, store, "BTCUSDT", options=options)
        async with agent() as (process, listening):
            refused = await typed_aside("import", *names, "--store", store)
            assert (refused.code, refused.err.count("\n")) == (1, 1)
            assert "let it import, with --agent" in refused.err
            url = f"http://{listening['command']}"
            body = {"kind": "import", "symbols": names[:2], "intervals": names[3].split(",")}
            async with httpx2.AsyncClient(base_url=url) as http:
                accepted = (await http.post("/v1/jobs", json=body)).json()
                assert accepted["saved"]
                job = await _begun(http, accepted["job"]["id"])
            await process.stop(signal.SIGKILL)
        assert job["progress"]["files"] < job["progress"]["files_total"]
        async with agent() as (_, listening):
            url = f"http://{listening['command']}"
            # The same request is the same job.
            ended = await typed_aside("import", *names, "--agent", url)
            assert ended.code == 0, ended.err
            listed = await typed_aside("jobs", "--agent", url)
            assert [row[:2] for row in listed.rows if job["id"] in row] == [[job["id"], "done"]]
            for words in (("pause", job["id"], "--agent", url), ("--agent", url, "cancel", "none")):
                refused = await typed_aside("jobs", *words)
                assert (refused.code, refused.err.count("\n")) == (1, 1)
    async with open_store(store) as stored:
        series = [each for each in await stored.summary() if each.interval != "1m"]
    assert len(series) == 6
    for each in series:
        step_ms = Interval(each.interval).next_open(0)
        assert each.closed == (each.last_open - each.first_open) // step_ms + 1 > 470


async def _begun(http: httpx2.AsyncClient, job_id: str) -> Any:
    with trio.fail_after(WITHIN_S):
        while True:
            job = (await http.get(f"/v1/jobs/{job_id}")).json()
            if job["progress"]["files"]:
                return job
            await trio.sleep(0.02)
