"""Both servers answer any request as their documents say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import trio

from tests.processes import running_agent, running_twin

pytestmark = pytest.mark.slow

TOKEN = "schemathesis-may-ask-anything"
EXAMPLES = 8
# The contract answers 400 for a symbol that does not exist; no schema knows which do.
NOT_CHECKED = "positive_data_acceptance"
# A read says 503 where candles are not there yet. Only another 5xx is a bug.
CHECKS = """[checks]
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "503"]
"""
# It takes 15 s of CPU; a machine busy with other tests gets much more.
WITHIN_S = 600


async def _examined(address: object, folder: Path) -> subprocess.CompletedProcess[bytes]:
    (folder / "schemathesis.toml").write_text(CHECKS)
    return await trio.run_process(
        [
            Path(sys.executable).with_name("schemathesis"),
            *("run", f"http://{address}/openapi.json", "--no-color", "--warnings", "off"),
            *("--header", f"Authorization: Bearer {TOKEN}"),
            *("--max-examples", str(EXAMPLES), "--generation-deterministic"),
            *("--checks", "all", "--exclude-checks", NOT_CHECKED, "--continue-on-failure"),
        ],
        cwd=folder,  # it leaves notes where it runs
        capture_stdout=True,
        capture_stderr=True,
        check=False,
    )


async def test_nothing_undocumented_is_answered(tmp_path: Path) -> None:
    """No 500, no status or shape that is not in the document, nothing without the token.

    All that an agent routes is asked, for the document is made of its routes.
    """
    token = tmp_path / "token"
    token.write_text(TOKEN)
    with trio.fail_after(WITHIN_S):
        async with (
            running_twin() as (_, twin),
            running_agent(twin, "memory:", "BTCUSDT", options=["--token-file", str(token)]) as (
                agent,
                listening,
            ),
        ):
            for server in ("command", "status"):
                examined = await _examined(listening[server], tmp_path)
                assert examined.returncode == 0, (examined.stdout + examined.stderr).decode()
                assert b"No issues found" in examined.stdout
    assert [each for each in agent.events if each.get("level") == "error"] == []
