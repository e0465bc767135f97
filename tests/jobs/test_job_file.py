"""The job file: jobs survive the process, and what is damaged is kept."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from klineagent.core.errors import StateError, StateUnreadable
from klineagent.jobs.job import Job, JobOrder, JobState
from klineagent.jobs.job_file import JobFile
from klineagent.jobs.jobs import Jobs
from klineagent.jobs.progress import ImportCounts
from klineagent.storage.memory.disk import MemoryDisk, Step
from tests.simulations.looking import logged

NAME = "subscriptions.json.jobs"
DAMAGED = b'{"format": 1, "klineagent":'


def a_file(disk: MemoryDisk) -> JobFile:
    """The job file of an agent, on `disk`."""
    return JobFile(disk=disk, name=NAME, store="memory:")


def a_job(**fields: Any) -> Job:
    """A job that imports minutes of BTCUSDT, but for the `fields` of its order."""
    order = JobOrder(kind="import", symbols=("usdm:BTCUSDT",), intervals=("1m",))
    return Job(order=msgspec.structs.replace(order, **fields), created_ms=1)


async def never(_job: Job) -> JobState:
    """Fail: no job of these tests has its turn."""
    raise AssertionError


def jobs_with(file: JobFile) -> Jobs:
    """The jobs of an agent that keeps them in `file`."""
    return Jobs(file=file, carry_out=never, now_ms=lambda: 1, counts=ImportCounts())


async def test_jobs_are_loaded_as_they_were_saved() -> None:
    """The order of turns is kept, too."""
    disk, jobs = MemoryDisk(), [a_job(symbols=("spot:*USDT",), first_ms=5), a_job()]
    assert await a_file(disk).load() == []
    await a_file(disk).save(jobs)
    assert await a_file(disk).load() == jobs


@pytest.mark.logs("jobs_unreadable")
async def test_a_damaged_file_is_set_aside_and_replaces_none(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The copy of an earlier damage is kept under its own name."""
    disk, kept = MemoryDisk(), []
    for _ in range(3):
        await a_file(disk).save([a_job()])
        disk.damage(NAME, DAMAGED)
        assert await a_file(disk).load() == []
        kept.append(logged(caplog, "jobs_unreadable")[-1]["kept"])
    assert kept == [f"{NAME}.unreadable{suffix}" for suffix in ("", "-2", "-3")]
    assert disk.paths == kept


@pytest.mark.parametrize(
    ("content", "step"),
    [
        pytest.param(None, Step.READ, id="cannot be read"),
        pytest.param(DAMAGED, Step.RENAME, id="cannot be renamed"),
    ],
)
@pytest.mark.logs("jobs_unreadable")
async def test_a_file_that_may_hold_jobs_is_not_written_over(
    content: bytes | None, step: Step, caplog: pytest.LogCaptureFixture
) -> None:
    """An error of the disk is no damage: the file stays as it is, and jobs end with the process."""
    disk = MemoryDisk()
    await a_file(disk).save([a_job()])
    if content is not None:
        disk.damage(NAME, content)
    jobs = jobs_with(a_file(disk))
    with disk.failing(step):
        with pytest.raises(StateError, match=f"jobs .*{NAME}"):
            await a_file(disk).load()
        await jobs.load()
    [line] = logged(caplog, "jobs_unreadable")
    assert line["kept"] == NAME
    assert (jobs.file, jobs.is_saved, disk.paths) == (None, False, [NAME])


async def test_a_file_of_a_newer_version_ends_the_start() -> None:
    """It is left alone."""
    disk = MemoryDisk()
    await a_file(disk).save([])
    disk.damage(NAME, b'{"format": 7, "klineagent": "9.0"}')
    with pytest.raises(StateUnreadable, match=r"jobs .*9\.0 wrote it"):
        await jobs_with(a_file(disk)).load()
    assert disk.paths == [NAME]


@pytest.mark.parametrize(
    "fields",
    [
        {"symbols": ()},
        {"symbols": ("BTCUSDT",)},
        {"symbols": ("nasdaq:AAPL",)},
        {"intervals": ("7m",)},
        {"intervals": ()},
        {"first_ms": 10**18},
        {"end_ms": -1},
        {"kind": "export"},
    ],
    ids=str,
)
@pytest.mark.logs("job_left_out")
async def test_jobs_that_are_not_valid_are_left_out(
    fields: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """The others are kept, and a warning says what is wrong."""
    disk, valid = MemoryDisk(), a_job()
    await a_file(disk).save([a_job(**fields), valid])
    assert await a_file(disk).load() == [valid]
    [line] = logged(caplog, "job_left_out")
    assert line["number"] == 0
    assert "$.order." in str(line["error"])
