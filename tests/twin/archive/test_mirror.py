from __future__ import annotations

import io
import re
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from klineagent.twin.archive.archive import PublicArchive, archive_of
from klineagent.twin.clock import ExchangeClock
from klineagent.twin.exchange import Exchange, open_exchange
from klineagent.twin.interval import DAY_MS
from klineagent.twin.market.archive import open_archive
from klineagent.twin.network import TwinNetwork
from klineagent.twin.venues import USDM
from tests.places import ARCHIVE
from tests.twin.archive.samples import UM_1M, Client, lines_of
from tests.twin.samples import START_MS

real_files = pytest.mark.skipif(not ARCHIVE.exists(), reason=f"no archive at {ARCHIVE}")


@pytest.fixture
def archive(twin: Exchange, tmp_path: Path) -> PublicArchive:
    """The archive of the real files, or of an empty folder."""
    return archive_of({"usdm": twin}, mirror=ARCHIVE if ARCHIVE.exists() else tmp_path)


@pytest.fixture
async def made(twin: Exchange, nursery: trio.Nursery) -> AsyncIterator[Client]:
    """A client of an archive that is made."""
    transport = TwinNetwork(twin, nursery, archive_of({"usdm": twin})).http_transport()
    async with Client(transport=transport) as opened:
        yield opened


@real_files
async def test_a_folder_is_listed_and_answered_as_it_is(
    client: Client, archive: PublicArchive
) -> None:
    """Page by page, with each file's size; other times of the exchange do not matter."""
    files = [each for each in ARCHIVE.rglob("*") if each.is_file()]
    paths = sorted(each.relative_to(ARCHIVE).as_posix() for each in files)
    archive.most_entries = 3
    found: list[str] = []
    folders = ["data/"]
    while folders:
        for name in await client.keys(folders.pop()):
            (folders if name.endswith("/") else found).append(name)
    assert sorted(found) == paths
    answer = await client.file(paths[0])
    assert answer.content == (ARCHIVE / paths[0]).read_bytes()
    listing = await client.get("https://data.binance.vision/", params={"prefix": paths[0]})
    assert f"<Size>{len(answer.content)}</Size>" in listing.text
    assert (await client.file(paths[0] + "x")).status_code == 404


async def test_nothing_beside_the_folder_is_answered(client: Client) -> None:
    """A path may not lead out of it."""
    for path in ("../README.md", "data/../../x", "%2e%2e/%2e%2e/etc/passwd", "data"):
        assert (await client.file(path)).status_code == 404


@real_files
async def test_files_of_replayed_candles_are_the_real_ones(nursery: trio.Nursery) -> None:
    """Byte for byte, once they are unpacked; after the last candle there are none."""
    clock = ExchangeClock(start_ms=START_MS + 40 * DAY_MS)
    async with open_exchange(open_archive(ARCHIVE, "usdm"), USDM, clock=clock) as exchange:
        transport = TwinNetwork(exchange, nursery, archive_of({"usdm": exchange})).http_transport()
        async with Client(transport=transport) as client:
            for path in (
                "data/futures/um/daily/klines/AVAXUSDT/1m/AVAXUSDT-1m-2026-02-01.zip",
                "data/futures/um/monthly/klines/AVAXUSDT/1m/AVAXUSDT-1m-2026-02.zip",
            ):
                assert await client.lines(path) == lines_of((ARCHIVE / path).read_bytes())
            days = await client.keys("data/futures/um/daily/klines/AVAXUSDT/1m/")
            assert days[-1].endswith("-2026-02-28.zip.CHECKSUM")


@real_files
async def test_made_files_have_the_shape_of_real_ones(made: Client) -> None:
    """CSV, zip and checksum, but for the numbers."""
    path = UM_1M.format("daily", "2026-01-31")
    ours = (await made.file(path)).content
    theirs = next(ARCHIVE.glob("data/futures/um/daily/klines/*/1m/*.zip"))
    our_lines, their_lines = lines_of(ours), lines_of(theirs.read_bytes())
    assert our_lines[0] == their_lines[0]
    assert len(our_lines) == len(their_lines)
    columns = [
        [[re.sub("[0-9]+", "9", text) for text in line.split(",")] for line in lines[1:]]
        for lines in (our_lines, their_lines)
    ]
    integers = [0, 6, 8, 11]
    for one, other in zip(*columns, strict=True):
        assert [one[each] for each in integers] == [other[each] for each in integers]
        assert one[1:5] == other[1:5] == ["9.9"] * 4
    entries = []
    for content in (ours, theirs.read_bytes()):
        with zipfile.ZipFile(io.BytesIO(content)) as opened:
            [entry] = opened.infolist()
            assert entry.filename.endswith(".csv")
            entries.append(
                (entry.compress_type, entry.create_system, entry.flag_bits, entry.external_attr)
            )
    assert entries[0] == entries[1]
    ours_sum = (await made.file(f"{path}.CHECKSUM")).text
    theirs_sum = theirs.with_name(f"{theirs.name}.CHECKSUM").read_text()
    shape = r"[0-9a-f]{64}  [A-Z0-9]+-1m-[0-9]{4}-[0-9]{2}-[0-9]{2}\.zip\n"
    assert re.fullmatch(shape, ours_sum)
    assert re.fullmatch(shape, theirs_sum)
