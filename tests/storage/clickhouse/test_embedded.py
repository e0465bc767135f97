from __future__ import annotations

import fcntl
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from klineagent.core.errors import ConfigError, RowsRefused, StoreMisconfigured
from klineagent.storage.clickhouse import embedded
from klineagent.storage.clickhouse.embedded import EmbeddedStore
from klineagent.storage.clickhouse.embedded_errors import LOCK
from klineagent.storage.clickhouse.session import Session, load_engine
from klineagent.storage.opening import open_store
from klineagent.storage.store import Batch
from tests.places import ROOT
from tests.storage.permissions import folder_of_others
from tests.storage.samples import sample

HOLDER = """
import sys, trio
from klineagent.storage.opening import open_store
from klineagent.storage.store import Batch
from tests.storage.samples import sample

async def main():
    async with open_store(sys.argv[1]) as store:
        for number in range(5):
            await store.insert(Batch(str(number), tuple(map(sample, range(number * 10, 10)))))
            await store.insert(Batch(f"{number}b", (sample(100 + number),)))
        print("stored", flush=True)
        await trio.sleep_forever()

trio.run(main)
"""


def start_holder(url: str) -> subprocess.Popen[str]:
    """Another process with the folder of `url` open, after it stored some klines."""
    pytest.importorskip("chdb")
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, url],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "stored\n"
    return process


async def test_folder_of_another_process_and_kill_9(tmp_path: Path) -> None:
    """While another process has the folder it is refused; killed, its rows are all there."""
    url = f"chdb://{tmp_path}/klines"
    with start_holder(url) as holder:
        try:
            async with open_store(url) as store:
                with pytest.raises(StoreMisconfigured, match="in use by another process"):
                    await store.prepare()
                holder.send_signal(signal.SIGKILL)
                holder.wait()
                assert len(await store.final_klines("usdm", "BTCUSDT", "1m")) == 15
        finally:
            holder.kill()


async def test_who_only_looks_whether_a_folder_is_in_use_hinders_no_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look locks the folder for a moment; the engine does not begin then, and tries again."""
    looks = 0

    def beside_a_look(label: str) -> Callable[[str], Session]:
        open_session = load_engine(label)

        def opened(folder: str) -> Session:
            nonlocal looks
            looks += 1
            if looks > 1:
                return open_session(folder)
            with (Path(folder) / LOCK).open("ab") as look:
                fcntl.flock(look, fcntl.LOCK_SH)
                return open_session(folder)

        return opened

    monkeypatch.setattr(embedded, "load_engine", beside_a_look)
    async with open_store(f"chdb://{tmp_path}") as store:
        await store.insert(Batch("1", (sample(1),)))
    assert looks > 1


async def test_one_folder_after_the_other(tmp_path: Path) -> None:
    """Closing a store frees the process for another folder."""
    pytest.importorskip("chdb")
    for name in ("a", "b", "a"):
        async with open_store(f"chdb://{tmp_path}/{name}") as store:
            await store.insert(Batch("t", (sample(),)))
            assert [series.closed for series in await store.summary()] == [1]


async def test_two_folders_at_once(tmp_path: Path) -> None:
    """While a process has one folder open it can have no other, and the first is unharmed."""
    pytest.importorskip("chdb")
    async with open_store(f"chdb://{tmp_path}/a") as first:
        await first.insert(Batch("t", (sample(),)))
        async with open_store(f"chdb://{tmp_path}/b") as second:
            with pytest.raises(StoreMisconfigured, match="another folder"):
                await second.prepare()
        assert await first.final_klines("usdm", "BTCUSDT", "1m") == [sample()]


async def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """A path through a file is the operator's to correct."""
    pytest.importorskip("chdb")
    (tmp_path / "file").touch()
    async with open_store(f"chdb://{tmp_path}/file/klines") as store:
        with pytest.raises(StoreMisconfigured, match=f"{tmp_path}/file is a file, not a folder"):
            await store.prepare()


@pytest.mark.parametrize("name", ["metadata", "data", "store"])
async def test_a_file_where_a_folder_should_be(tmp_path: Path, name: str) -> None:
    """The operator has to move it away, so it is an error and not retried silently."""
    pytest.importorskip("chdb")
    (tmp_path / name).touch()
    async with open_store(f"chdb://{tmp_path}") as store:
        with pytest.raises(StoreMisconfigured, match=f"used: {tmp_path}/{name} is a file"):
            await store.prepare()


async def test_a_folder_that_may_not_be_written_is_told_as_such() -> None:
    """Not as one that is in use."""
    pytest.importorskip("chdb")
    with folder_of_others(0o555) as folder:
        async with open_store(f"chdb://{folder}") as store:
            with pytest.raises(StoreMisconfigured, match=r"cannot be written: .* denied"):
                await store.prepare()


async def test_a_folder_in_it_that_may_not_be_read_is_told_as_such() -> None:
    """The engine says nothing of it."""
    pytest.importorskip("chdb")
    with folder_of_others(0o777) as folder:
        closed = folder / "metadata"
        closed.mkdir(mode=0)
        async with open_store(f"chdb://{folder}") as store:
            with pytest.raises(StoreMisconfigured, match=f"no permission for {closed}$"):
                await store.prepare()
        closed.chmod(0o700)


async def test_a_folder_that_the_engine_cannot_read(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """What it says of it is where the error says."""
    pytest.importorskip("chdb")
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata" / "market.sql").touch()
    async with open_store(f"chdb://{tmp_path}") as store:
        with pytest.raises(StoreMisconfigured, match="standard error"):
            await store.prepare()
    assert "metadata/market.sql" in capfd.readouterr().err


async def test_missing_engine_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without chdb the error names the extra and the other way."""
    monkeypatch.setitem(sys.modules, "chdb", None)
    monkeypatch.setitem(sys.modules, "chdb.session", None)
    with pytest.raises(ConfigError, match=r"klineagent\[embedded\].*clickhouse://"):
        async with open_store("chdb:klines"):
            pass


async def test_constraint_of_the_table_refuses_rows(tmp_path: Path) -> None:
    """A refusal by the table itself is not taken for success."""
    pytest.importorskip("chdb")
    async with open_store(f"chdb://{tmp_path}/klines") as store:
        await store.prepare()
        add = "ALTER TABLE market.klines ADD CONSTRAINT sane CHECK trades < 1000"
        assert isinstance(store, EmbeddedStore)
        await store._writing.run(lambda session: session.query(add))
        with pytest.raises(RowsRefused, match="sane"):
            await store.insert(Batch("a", (sample(trades=1000),)))
        await store.insert(Batch("b", (sample(trades=999),)))
        assert [series.closed for series in await store.summary()] == [1]
