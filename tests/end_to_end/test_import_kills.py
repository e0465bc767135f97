"""An import that is killed in the middle is gone on with by the next one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import trio

from klineagent.storage.opening import open_store
from klineagent.storage.reader import END_MS
from klineagent.storage.store import SeriesSummary
from tests.places import ARCHIVE

pytest.importorskip("chdb")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not ARCHIVE.exists(), reason="there are no files of the archive"),
]

MONTH = "data/futures/um/monthly/klines/{0}/1m/{0}-1m-2026-02.zip"
SYMBOLS = [f"S{number}USDT" for number in range(9)]
"""Three units."""


def test_what_is_there_after_kills_is_what_an_undisturbed_import_brings(tmp_path: Path) -> None:
    """Each is killed as soon as it tells of a unit: the next one is stored at that moment."""
    content = (ARCHIVE / MONTH.format("AVAXUSDT")).read_bytes()
    for symbol in SYMBOLS:
        file = tmp_path / "mirror" / MONTH.format(symbol)
        file.parent.mkdir(parents=True)
        file.write_bytes(content)
    store = f"chdb://{tmp_path}/killed"
    for _ in range(2):
        process = _started(tmp_path, store)
        assert process.stdout is not None
        for line in process.stdout:
            if '"unit_stored"' in line:
                break
        process.kill()
        process.communicate()
    for each in (store, f"chdb://{tmp_path}/undisturbed"):
        process = _started(tmp_path, each)
        process.communicate()
        assert process.returncode == 0
    killed, undisturbed = _stored(store), _stored(f"chdb://{tmp_path}/undisturbed")
    assert killed == undisturbed
    assert len(killed[0]) == len(killed[1]) == len(SYMBOLS)


def _started(folder: Path, store: str) -> subprocess.Popen[str]:
    words = ["S*", "--from", "2026-02-01", "--to", "2026-03-01", "--no-rest", "--json"]
    place = ["--archive-url", f"{folder}/mirror", "--store", store]
    return subprocess.Popen(
        [sys.executable, "-m", "klineagent", "import", *words, *place],
        stdout=subprocess.PIPE,
        text=True,
    )


def _stored(url: str) -> tuple[list[SeriesSummary], list[tuple[int, ...]]]:
    """What is stored of each series, and the digests of its days, by rows and by records."""

    async def read() -> tuple[list[SeriesSummary], list[tuple[int, ...]]]:
        async with open_store(url) as store:
            summary = await store.summary()
            records = await store.history.records("usdm", SYMBOLS, ["1m"])
            shown = await store.history.day_digests("usdm", SYMBOLS, "1m", 0, END_MS)
        digests = [record.day_digests for record in records]
        assert sorted(each.digest for each in shown) == sorted(sum(digests, ()))
        return summary, digests

    return trio.run(read)
