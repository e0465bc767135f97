"""`klineagent bench` as typed by a user. Nothing here depends on speed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from klineagent.bench.operation.questions import SHARES
from klineagent.core.interrupts import INTERRUPTED
from tests.browsers import chromium

FEW = ("--symbols", "3", "--warm-up", "0")
SHORT = (*FEW, "--seconds", "0.5")
PLAIN = ("--no-tls", "--store", "memory:")
STREAMS = 3 * 15
ENDS_WITHIN_S = 60


def bench(*arguments: str) -> subprocess.Popen[str]:
    """`klineagent bench ARGUMENTS` in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "klineagent", "bench", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def measured(*arguments: str) -> dict[str, Any]:
    """The JSON output of the command; all its processes have ended."""
    with bench(*arguments, "--json") as process:
        out, err = process.communicate(timeout=ENDS_WITHIN_S)
    assert process.returncode == 0, err
    assert_nothing_left(process.pid)
    result: dict[str, Any] = json.loads(out)
    return result


def assert_nothing_left(group: int) -> None:
    """No process of the group is alive."""
    with pytest.raises(ProcessLookupError):
        os.killpg(group, 0)


def test_a_paced_market_is_measured() -> None:
    """Twin and agent run, all sent frames arrive, and every figure is there."""
    result = measured("paced", "--rate", "900", "--seconds", "2", *FEW, *PLAIN)
    assert result["scenario"] == "paced"
    run = result["runs"]["900"]
    assert run["streams"] == STREAMS
    assert 900 < run["messages"] < 2700
    assert run["messages_per_s"] == pytest.approx(run["messages"] / run["seconds"], abs=0.01)
    assert run["bad_frames"] == run["healed"] == run["missing"] == 0
    assert run["inserts"] > 0
    assert STREAMS <= run["rows"] <= run["messages"]
    assert run["cpu_s"] > 0
    assert 0 < run["rss"] <= run["peak_rss"]
    for name in ("lag_ms", "ping_ms"):
        spread = run[name]
        assert 0 <= spread["p50"] <= spread["p99"] <= spread["max"]
        assert spread["count"] > 10
    assert run["newest_age_ms"] is not None
    assert run["warnings"] == {}
    assert {bar["what"] for bar in result["bars"]} >= {"% of one core", "/ping p99, ms"}


def test_a_saturated_agent_is_measured() -> None:
    """The twin sends as fast as the agent reads."""
    result = measured("saturated", *SHORT, "--no-tls")
    assert list(result["runs"]) == ["plain"]
    assert result["runs"]["plain"]["messages"] > 1_000
    assert result["runs"]["plain"]["cpu_us_per_message"] > 0


def test_streams_are_added_over_http() -> None:
    """The agent starts without streams, over TLS."""
    result = measured("subscribe", "--rate", "100", *SHORT)
    seen = {bar["what"]: bar["seen"] for bar in result["bars"]}
    assert seen["streams"] == STREAMS
    assert 0 < seen["added within, s"] < ENDS_WITHIN_S


def test_an_agent_is_measured_under_http_load() -> None:
    """There are two windows; in the second every kind of request is answered."""
    result = measured(
        "operate", "--rate", "900", "--seconds", "2", "--requests", "100", *FEW, *PLAIN
    )
    assert list(result["runs"]) == ["left alone", "100 requests a second"]
    for run in result["runs"].values():
        assert 900 < run["messages"] < 2700
        assert run["insert_age_ms"]["count"] > 0
    answers = result["answers"]
    assert answers["errors"] == {}
    assert answers["asked"] == answers["answered"] == 200
    assert len(answers["kinds"]) == len(SHARES)
    assert {bar["what"] for bar in result["bars"]} >= {"requests that failed", "requests p99, ms"}


def test_an_agent_is_measured_while_programs_read() -> None:
    """Each kind of reading has a window of its own; documents are whole, or the run fails."""
    few = ("--requests", "20", "--candles", "2000", "--closes", "0")
    result = measured("reading", "--rate", "900", *SHORT, "--no-tls", *few)
    windows = ["left alone", "klines", "streams", "documents", "a client leaves"]
    assert list(result["runs"]) == windows
    assert result["answers"]["errors"] == {}
    assert result["answers"]["answered"] == 10
    seen = {bar["what"]: bar["seen"] for bar in result["bars"]}
    assert seen["stream clients cut"] == 0
    assert 0 < seen["Arrow document, s"] < ENDS_WITHIN_S
    assert seen["client left to the end of its query, s"] >= 0


@pytest.mark.browser
def test_an_agent_is_measured_while_its_dashboard_is_open() -> None:
    """The page shows all its parts, and each of two tabs asks for more each second."""
    few = ("--tabs", "2", "--browser", chromium())
    result = measured("dashboard", "--rate", "900", "--seconds", "2", *FEW, *PLAIN, *few)
    assert list(result["runs"]) == ["left alone", "2 tabs"]
    seen = {bar["what"]: bar["seen"] for bar in result["bars"]}
    assert 0 < seen["first paint, ms"] < seen["heat map of 30 days, ms"]
    assert seen["of a page of one word"] > 0
    assert seen["requests a second of 2 tabs"] > 0
    assert seen["script and style, KB"] > 10


def test_figures_are_shown_as_a_table() -> None:
    """The bars are below."""
    with bench("paced", "--rate", "100", *SHORT, *PLAIN) as process:
        out, err = process.communicate(timeout=ENDS_WITHIN_S)
    assert process.returncode == 0, err
    assert "messages a second" in out
    assert "at most 50" in out


def test_a_signal_ends_all_of_it(tmp_path: Path) -> None:
    """One line on stderr, Ctrl-C's exit code, no process and no folder left."""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "klineagent", "bench", "paced", "--symbols", "3"]
    with subprocess.Popen(
        [*command, "--seconds", "600", *PLAIN],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    ) as process:
        while not any(tmp_path.iterdir()):
            assert process.poll() is None
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=ENDS_WITHIN_S)
    assert process.returncode == INTERRUPTED
    assert err == "klineagent: stopped before the measurement ended\n"
    assert_nothing_left(process.pid)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["paced", "--rate", "fast"], "a whole number or max"),
        (["paced", "--symbols", "0"], "--symbols"),
        (["paced", "--intervals", "7m"], "--intervals"),
        (["paced", "--store", "paper:"], "--store"),
        (["paced", "--seconds", "0"], "--seconds"),
        (["saturated", "--warm-up", "-1"], "--warm-up"),
        (["operate", "--requests", "0"], "--requests"),
        (["dashboard", "--browser", "/nowhere/chromium"], "/nowhere/chromium"),
        (["quickly"], "quickly"),
    ],
)
def test_an_unusable_option_is_one_line_that_names_it(arguments: list[str], named: str) -> None:
    """Exit code 2, a reason on stderr, no stack trace."""
    with bench(*arguments) as process:
        _, err = process.communicate(timeout=ENDS_WITHIN_S)
    assert process.returncode == 2
    assert named in err.strip().splitlines()[-1]
    assert "Traceback" not in err


def test_an_agent_that_cannot_start_is_an_error() -> None:
    """Its reason is shown, with exit code 1."""
    with bench("paced", "--symbols", "3", "--no-tls", "--store", "chdb:/dev/null/x") as process:
        _, err = process.communicate(timeout=ENDS_WITHIN_S)
    assert process.returncode == 1
    assert err.startswith("klineagent: the agent: ")
    assert "Traceback" not in err
