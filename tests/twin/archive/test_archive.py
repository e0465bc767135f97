from __future__ import annotations

import hashlib

import trio
from trio.testing import MockClock

from klineagent.twin.archive.archive import PublicArchive
from tests.twin.archive.samples import UM_1M, Client


async def test_a_file_holds_what_rest_answers(client: Client) -> None:
    """Text for text, but for the kind of the numbers."""
    lines = await client.lines(UM_1M.format("daily", "2026-01-31"))
    query = {"symbol": "BTCUSDT", "interval": "1m", "limit": "1440", "startTime": "1769817600000"}
    rows = (await client.get("https://fapi.binance.com/fapi/v1/klines", params=query)).json()
    assert lines[0].startswith("open_time,open,")
    assert lines[1:] == [",".join(map(str, row)) for row in rows]


async def test_a_month_is_the_sum_of_its_days(client: Client) -> None:
    """It lacks none, and all lines are those of the days; the first is half a day."""
    month = await client.lines(UM_1M.format("monthly", "2025-12"))
    days = [
        line
        for day in range(23, 32)
        for line in (await client.lines(UM_1M.format("daily", f"2025-12-{day}")))[1:]
    ]
    assert month[1:] == days
    assert len(days) == 720 + 8 * 1_440


async def test_a_first_day_is_as_long_as_its_life(client: Client) -> None:
    """The listing's day begins with the first candle, and its month does."""
    day = await client.lines(UM_1M.format("daily", "2025-12-23"))
    assert len(day) == 1 + 720
    assert (await client.lines(UM_1M.format("monthly", "2025-12")))[:721] == day
    assert (await client.file(UM_1M.format("daily", "2025-12-22"))).status_code == 404


async def test_a_checksum_is_that_of_the_zip(client: Client) -> None:
    """As the program for it writes it, and with the size that the listing told."""
    path = UM_1M.format("daily", "2026-01-31")
    content = (await client.file(path)).content
    line = f"{hashlib.sha256(content).hexdigest()}  BTCUSDT-1m-2026-01-31.zip\n"
    assert (await client.file(f"{path}.CHECKSUM")).text == line
    folder = path[: path.rindex("/") + 1]
    listing = await client.get("https://data.binance.vision/", params={"prefix": folder})
    after = listing.text.partition(f"<Key>{path}</Key>")[2]
    assert f"<Size>{len(content)}</Size>" in after[:200]


async def test_files_are_published_the_morning_after(
    client: Client, autojump_clock: MockClock
) -> None:
    """A day's at half past eight of the next, and within a quarter of an hour."""
    path = UM_1M.format("daily", "2026-02-01")
    await trio.sleep((12 + 8) * 3600 + 29 * 60)
    assert (await client.file(path)).status_code == 404
    await trio.sleep(15 * 60)
    assert len(await client.lines(path)) == 1_441


async def test_symbols_intervals_and_files_are_found_by_the_listing(client: Client) -> None:
    """Folder by folder; a delivery contract and a name outside ASCII are there."""
    assert await client.keys("") == ["data/"]
    assert await client.keys("data/futures/") == ["data/futures/um/"]
    symbols = await client.keys("data/futures/um/daily/klines/")
    assert "data/futures/um/daily/klines/币安人生USDT/" in symbols
    assert "data/futures/um/daily/klines/BTCUSDT_260327/" in symbols
    intervals = await client.keys("data/futures/um/monthly/klines/BTCUSDT/")
    assert [each.split("/")[-2] for each in intervals] == sorted(
        [
            "1m",
            "3m",
            "5m",
            "15m",
            "30m",
            "1h",
            "2h",
            "4h",
            "6h",
            "8h",
            "12h",
            "1d",
            "3d",
            "1w",
            "1mo",
        ]
    )
    months = await client.keys("data/futures/um/monthly/klines/BTCUSDT/1mo/")
    assert [each.split("/")[-1] for each in months] == [
        "BTCUSDT-1mo-2025-12.zip",
        "BTCUSDT-1mo-2025-12.zip.CHECKSUM",
        "BTCUSDT-1mo-2026-01.zip",
        "BTCUSDT-1mo-2026-01.zip.CHECKSUM",
    ]


async def test_a_listing_has_pages(client: Client, archive: PublicArchive) -> None:
    """Both ways to ask for the next one lead to the same keys."""
    folder = "data/futures/um/daily/klines/BTCUSDT/1m/"
    whole = await client.keys(folder)
    archive.most_entries = 7
    assert await client.keys(folder) == whole
    assert len(whole) == 2 * 40
    keys, query = [], {"prefix": folder, "list-type": "2"}
    while True:
        text = (await client.get("https://data.binance.vision/", params=query)).text
        keys += [part.split("<")[0] for part in text.split("<Key>")[1:]]
        if "<IsTruncated>false" in text:
            break
        token = text.split("<NextContinuationToken>")[1].split("<")[0]
        query["continuation-token"] = token
    assert keys == whole


async def test_a_part_of_a_file_is_answered(client: Client) -> None:
    """A range, unless the file has changed; a head without a body; nothing twice."""
    path = "https://data.binance.vision/" + UM_1M.format("daily", "2026-01-31")
    whole = await client.get(path)
    etag = whole.headers["etag"]
    part = await client.get(path, headers={"range": "bytes=10-19", "if-range": etag})
    assert (part.status_code, part.content) == (206, whole.content[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{len(whole.content)}"
    other = await client.get(path, headers={"range": "bytes=10-19", "if-range": '"other"'})
    assert (other.status_code, other.content) == (200, whole.content)
    outside = await client.get(path, headers={"range": f"bytes={len(whole.content)}-"})
    assert outside.status_code == 416
    head = await client.head(path)
    assert (head.headers["content-length"], head.content) == (str(len(whole.content)), b"")
    assert (await client.get(path, headers={"if-none-match": etag})).status_code == 304


async def test_what_is_not_there_is_refused_as_by_the_bucket(client: Client) -> None:
    """In XML, with a code."""
    answer = await client.file(UM_1M.format("daily", "2031-01-31"))
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/xml")
    assert "<Code>NoSuchKey</Code>" in answer.text
