"""Commands for a spool, as they are typed, beside an agent and without one."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from klineagent.storage.spool import segment
from klineagent.storage.spool.disk import Folder
from klineagent.storage.spool.spool import Spool, open_spool
from tests.cli.typed import typed, typed_aside
from tests.storage.samples import FIRST_OPEN, sample
from tests.storage.spools import NO_LIMIT, candles, drained, updates


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the spool of these tests is."""
    return tmp_path / "spool"


@pytest.fixture
async def agents(folder: Path) -> AsyncIterator[Spool]:
    """The spool as an agent has it that runs meanwhile; two batches wait, two were refused."""
    async with open_spool(Folder(folder), limit_bytes=NO_LIMIT) as spool:
        await spool.append(candles(1))
        await spool.append(updates(1, rows=5))
        await spool.set_aside(candles(2, rows=2), "code 117: [no] such number")
        await spool.set_aside(updates(2, rows=1), "too late")
        yield spool


_spool = partial(typed_aside, "spool")


async def _listed(folder: Path) -> dict[str, Any]:
    ended = await _spool("list", "--spool", str(folder), "--json")
    assert ended.code == 0, ended.err
    listed: dict[str, Any] = json.loads(ended.out)
    return listed


async def test_list_tells_programs_all_of_it(agents: Spool, folder: Path) -> None:
    """Queues by table, dead letters with what is in them and why, damaged files."""
    (folder / "quarantine" / "torn.seg").write_bytes(b"KL")
    listed = await _listed(folder)
    assert listed["quarantined"] == ["torn.seg"]
    assert [
        (queue["table"], queue["segments"], queue["rows"], queue["oldest_event"])
        for queue in listed["queues"]
    ] == [
        ("klines", 1, 3, sample(1000).event_time),
        ("kline_updates", 1, 5, FIRST_OPEN + 60_000 + 1),
    ]
    assert [queue["bytes"] for queue in listed["queues"]] == [
        sum(file.stat().st_size for file in (folder / name).iterdir())
        for name in ("candles", "updates")
    ]
    refused, late = listed["dead_letters"]
    assert (refused["table"], refused["rows"]) == ("klines", 2)
    assert refused["reason"] == "code 117: [no] such number"
    assert refused["series"] == ["BTCUSDT 1m"]
    assert (refused["first_open"], refused["last_open"]) == (
        sample(2000).open_time,
        sample(2001).open_time,
    )
    assert (late["table"], late["rows"], late["reason"]) == ("kline_updates", 1, "too late")
    assert agents.dead_letters == 2


@pytest.mark.parametrize("command", [("list",), ("retry",), ("drop", "--yes")])
async def test_files_of_a_newer_agent_are_left_alone(
    agents: Spool, folder: Path, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is asked for is refused, with the version that knows them."""
    with monkeypatch.context() as newer:
        newer.setattr(segment, "FORMAT", 3)
        newer.setattr(segment, "__version__", "4.5.6")
        await agents.set_aside(candles(1), "refused")
    done = await _spool(*command, "--spool", str(folder))
    assert done.code == 1
    assert "klineagent 4.5.6 wrote it" in done.err
    await agents.refresh()
    assert (agents.segments, agents.dead_letters, agents.damaged) == (2, 3, 0)


async def test_list_tells_people_all_of_it(agents: Spool, folder: Path) -> None:
    """In tables; a database's words are shown as they are."""
    (folder / "quarantine" / "torn.seg").write_bytes(b"KL")
    (folder / "dead" / "broken.seg").write_bytes(b"")
    ended = await _spool("list", "--spool", str(folder))
    assert ended.code == 0, ended.err
    rows = [line.split() for line in ended.out.splitlines()]
    waiting = next(row for row in rows if row[:1] == ["klines"])
    assert (waiting[1:3], waiting[-2:]) == (["1", "3"], ["2026-02-01", "16:41"])
    for text in ("code 117: [no] such number", "kline_updates: BTCUSDT 1m", "torn.seg"):
        assert text in ended.out
    broken = next(row for row in rows if row[:1] == ["broken"])
    assert broken[1:3] == ["0", "damaged:"]
    assert agents.dead_letters == 2


async def test_retry_of_one_puts_it_back_as_new(agents: Spool, folder: Path) -> None:
    """The running agent finds it under another token, before what came after it."""
    name = (await _listed(folder))["dead_letters"][0]["name"]
    ended = await _spool("retry", name.removesuffix(".seg"), "--spool", str(folder))
    assert ended.code == 0, ended.err
    assert ended.out.endswith(": 2 rows wait for klines\n")
    await agents.refresh()
    assert (agents.segments, agents.rows, agents.dead_letters) == (3, 10, 1)
    first, retried, last = await drained(agents)
    assert (first, last) == (candles(1), updates(1, rows=5))
    assert retried.klines == candles(2, rows=2).klines
    assert retried.token not in {"", candles(2).token}


async def test_retry_of_all(agents: Spool, folder: Path) -> None:
    """Each goes to the queue of its table; a damaged one goes to quarantine, which is logged."""
    (folder / "dead" / "broken.seg").write_bytes(b"KLSG")
    ended = await _spool("retry", "--spool", str(folder))
    assert ended.code == 0, ended.err
    assert len(ended.out.splitlines()) == 2
    assert "dead/broken.seg" in ended.err
    await agents.refresh()
    assert (agents.segments, agents.dead_letters, agents.damaged) == (4, 0, 1)
    assert (await _spool("retry", "--spool", str(folder))).out == "there are no dead letters\n"


async def test_drop_asks(agents: Spool, folder: Path) -> None:
    """Without a yes nothing is deleted, nor without a terminal to answer on."""
    for answer in ("n\n", ""):
        ended = await _spool("drop", "--spool", str(folder), answer=answer)
        assert ended.code == 1
        assert "Delete 2 dead letters, 3 rows, for good?" in ended.out
    await agents.refresh()
    assert agents.dead_letters == 2
    ended = await _spool("drop", "--spool", str(folder), answer="y\n")
    assert ended.out.endswith("2 dead letters deleted, 3 rows\n")
    await agents.refresh()
    assert (agents.dead_letters, agents.segments) == (0, 2)


async def test_drop_of_one_without_asking(agents: Spool, folder: Path) -> None:
    """The others stay."""
    name = (await _listed(folder))["dead_letters"][1]["name"]
    ended = await _spool("drop", name, name, "--yes", "--spool", str(folder))
    assert ended.out == "1 dead letters deleted, 1 rows\n"
    assert [each["reason"] for each in (await _listed(folder))["dead_letters"]] == [
        "code 117: [no] such number"
    ]
    await agents.refresh()
    assert agents.dead_letters == 1


async def test_a_name_that_is_not_there_changes_nothing(agents: Spool, folder: Path) -> None:
    """It is reported, and the others are left alone; a path is no name."""
    names = [each["name"] for each in (await _listed(folder))["dead_letters"]]
    for command in (["retry"], ["drop", "--yes"]):
        ended = await _spool(*command, *names, "../candles/other", "--spool", str(folder))
        assert ended.code == 1
        assert ended.err == "klineagent: there is no dead letter ../candles/other\n"
    await agents.refresh()
    assert agents.dead_letters == 2


async def test_the_spool_is_found_as_its_agent_finds_it(tmp_path: Path) -> None:
    """By options, by the environment, or by a file."""
    spool = tmp_path / "data-spool-spot"
    async with open_spool(Folder(spool), limit_bytes=NO_LIMIT) as opened:
        await opened.append(candles(1))
    store = f"chdb://{tmp_path}/data"
    file = tmp_path / "agent.toml"
    file.write_text(f'[klineagent]\nstore = "{store}"\nvenue = "spot"\n')
    for ended in (
        await _spool("list", "--store", store, "--venue", "spot"),
        await _spool("list", KLINEAGENT_STORE=store, KLINEAGENT_VENUE="spot"),
        await _spool("list", "--config", str(file)),
        await _spool("list", KLINEAGENT_SPOOL=str(spool)),
    ):
        assert ended.code == 0, ended.err
        assert f"Spool {spool}\n" in ended.out
    ended = await _spool("list", "--store", store, "--venue", "usdm")
    assert ended.code == 1
    assert ended.err.strip().endswith("data-spool-usdm: no such folder")


@pytest.mark.parametrize("options", [["--spool", "none"], ["--store", "memory:"]])
async def test_an_agent_without_a_spool(options: list[str]) -> None:
    """There is no spool, which is an error of usage."""
    ended = await _spool("list", *options)
    assert ended.code == 2
    assert ended.err.splitlines() == [
        "klineagent: these options give the agent no spool; name its folder with --spool"
    ]


async def test_every_command_explains_itself() -> None:
    """The group and each of its commands."""
    for arguments in ([], ["list"], ["retry"], ["drop"]):
        helped = await _spool(*arguments, "--help")
        assert helped.code == 0
        assert " ".join(["spool", *arguments, "[OPTIONS]"]) in helped.out


def test_a_folder_an_agent_never_used_holds_nothing(tmp_path: Path) -> None:
    """No table is missing; nothing is made."""
    listed = json.loads(typed("spool", "list", "--spool", str(tmp_path), "--json").out)
    assert [queue["segments"] for queue in listed["queues"]] == [0, 0]
    assert list(tmp_path.iterdir()) == []
