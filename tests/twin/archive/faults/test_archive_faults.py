from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from datetime import date
from itertools import pairwise

import httpx2
import pytest
import trio
from trio.testing import MockClock

from klineagent.core.interval import DAY_MS
from klineagent.twin.archive.archive import PublicArchive, archive_of
from klineagent.twin.archive.faults.faults import ArchiveFaults
from klineagent.twin.exchange import Exchange
from klineagent.twin.network import TwinNetwork
from tests.twin.archive.samples import NOON_MS, UM_1M, Client

# The market's first month is its shortest: it began at noon of the 23rd.
DAY, MONTH = UM_1M.format("daily", "2025-12-30"), UM_1M.format("monthly", "2025-12")
STRUCK = {date(2025, 12, 30)}
BEFORE = 1 + 720 + 6 * 1_440
"""Lines of the month before that day's."""


def opens(lines: list[str]) -> list[int]:
    """The open times of a file with a header."""
    return [int(line.partition(",")[0]) for line in lines[1:]]


async def both(client: Client, block: AbstractContextManager[None], path: str) -> list[list[str]]:
    """The lines of a file without a fault, and with it."""
    true = await client.lines(path)
    with block:
        return [true, await client.lines(path)]


ROWS: dict[str, Callable[..., AbstractContextManager[None]]] = {
    "off_grid": ArchiveFaults.off_grid,
    "cut_closes": ArchiveFaults.cut_closes,
    "holes": ArchiveFaults.holes,
    "flat_rows": ArchiveFaults.flat_rows,
    "wrong_volumes": ArchiveFaults.wrong_volumes,
    "impossible_rows": ArchiveFaults.impossible_rows,
    "repeated_rows": ArchiveFaults.repeated_rows,
    "unequal_rows": ArchiveFaults.unequal_rows,
    "unsorted_rows": ArchiveFaults.unsorted_rows,
}


@pytest.mark.parametrize("kind", ROWS)
async def test_a_struck_day_is_the_same_in_both_files(
    client: Client, archive: PublicArchive, kind: str
) -> None:
    """All other days of the month are true."""
    with ROWS[kind](archive.faults, days=STRUCK):
        size = len((await client.file(DAY)).content)
        assert f"<Size>{size}</Size>" in await client.listed(DAY)
        day, month = await client.lines(DAY), await client.lines(MONTH)
    true_day, true_month = await client.lines(DAY), await client.lines(MONTH)
    assert day != true_day
    assert month[:BEFORE] == true_month[:BEFORE]
    assert month[BEFORE : BEFORE + len(day) - 1] == day[1:]
    assert month[BEFORE + len(day) - 1 :] == true_month[BEFORE + 1_440 :]
    assert archive.faults.injected == {kind: 3}


async def test_rows_off_the_grid_open_fourteen_seconds_late(
    client: Client, archive: PublicArchive
) -> None:
    """Their closes are late, too."""
    true, told = await both(client, archive.faults.off_grid(days=STRUCK), DAY)
    late = {
        tuple(int(one.split(",")[column]) - int(other.split(",")[column]) for column in (0, 6))
        for one, other in zip(told[1:], true[1:], strict=True)
    }
    assert late == {(0, 0), (14_000, 14_000)}


async def test_one_candle_is_told_to_close_early(client: Client, archive: PublicArchive) -> None:
    """Nothing else of it is wrong."""
    true, told = await both(client, archive.faults.cut_closes(days=STRUCK), DAY)
    [(one, other)] = [pair for pair in zip(told, true, strict=True) if pair[0] != pair[1]]
    fields, true_fields = one.split(","), other.split(",")
    assert int(fields.pop(6)) < int(true_fields.pop(6))
    assert fields == true_fields


async def test_a_hole_is_in_the_archive_only(client: Client, archive: PublicArchive) -> None:
    """Rows that follow each other are missing."""
    true, told = await both(client, archive.faults.holes(days=STRUCK), DAY)
    missing = sorted(set(opens(true)) - set(opens(told)))
    assert missing
    assert all(later - earlier == 60_000 for earlier, later in pairwise(missing))


async def test_flat_rows_have_no_volume(client: Client, archive: PublicArchive) -> None:
    """Their price is one, and trades are none."""
    true, told = await both(client, archive.faults.flat_rows(days=STRUCK), DAY)
    changed = [one.split(",") for one, other in zip(told, true, strict=True) if one != other]
    assert changed
    assert {(*row[1:5],) for row in changed} == {(row[1],) * 4 for row in changed}
    assert {float(row[5]) + float(row[7]) + int(row[8]) for row in changed} == {0}


async def test_a_month_may_lack_days_be_stale_or_end_early(
    client: Client, archive: PublicArchive
) -> None:
    """The daily files have them right."""
    true = await client.lines(DAY)
    true_month, lacking = await both(client, archive.faults.lacking_days(days=STRUCK), MONTH)
    assert lacking == true_month[:BEFORE] + true_month[BEFORE + 1_440 :]
    _, stale = await both(client, archive.faults.stale_days(days=STRUCK), MONTH)
    told = [pair for pair in zip(stale, true_month, strict=True) if pair[0] != pair[1]]
    assert [other for _, other in told] == true[1:]
    _, early = await both(client, archive.faults.early_ends(), MONTH)
    assert early == true_month[: len(early)]
    assert 1 <= (len(true_month) - len(early)) // 1_440 <= 7
    with archive.faults.lacking_days(), archive.faults.stale_days(), archive.faults.early_ends():
        assert await client.lines(DAY) == true


async def test_half_a_day_is_replaced_later(
    client: Client, archive: PublicArchive, autojump_clock: MockClock
) -> None:
    """The file that replaces it has another ETag, and is modified then."""
    path = UM_1M.format("daily", "2026-01-31")
    with archive.faults.half_days(for_days=1):
        early = await client.file(path)
        await trio.sleep(86_400)
        late = await client.file(path)
    half, whole = await client.lines(path), late
    assert early.headers["etag"] != late.headers["etag"]
    assert early.headers["last-modified"].startswith("Sun, 01 Feb 2026 08:3")
    assert late.headers["last-modified"].startswith("Mon, 02 Feb 2026 08:3")
    assert len(half) == 1_441
    assert whole.content == (await client.file(path)).content


async def test_a_fault_that_ends_rewrites_its_files(
    client: Client, archive: PublicArchive, autojump_clock: MockClock
) -> None:
    """Only those that it struck; one that was there at the start had always been."""
    other = UM_1M.format("daily", "2026-01-29")
    with archive.faults.wrong_volumes(days=STRUCK):
        before, listed = (await client.file(DAY)).headers, await client.file(other)
        await trio.sleep(3_600)
    after = (await client.file(DAY)).headers
    assert before["last-modified"].startswith("Wed, 31 Dec 2025 08:3")
    assert after["last-modified"] == "Sun, 01 Feb 2026 13:00:00 GMT"
    assert before["etag"] != after["etag"]
    assert (await client.file(other)).headers == listed.headers
    text = (await client.get("https://data.binance.vision/", params={"prefix": DAY})).text
    assert "<LastModified>2026-02-01T13:00:00.000Z</LastModified>" in text


async def test_files_are_late_or_never_published(
    client: Client, archive: PublicArchive, autojump_clock: MockClock
) -> None:
    """They are neither answered nor listed."""
    path = UM_1M.format("daily", "2026-01-31")
    folder = path[: path.rindex("/") + 1]
    with archive.faults.unpublished(for_days=2, days={date(2026, 1, 31)}):
        assert (await client.file(path)).status_code == 404
        assert path not in await client.keys(folder)
        await trio.sleep(2 * 86_400)
        late = await client.file(path)
        assert late.headers["last-modified"].startswith("Tue, 03 Feb 2026 08:3")
        assert path in await client.keys(folder)
    with archive.faults.absent_months():
        assert (await client.file(MONTH)).status_code == 404
        assert (await client.file(f"{MONTH}.CHECKSUM")).status_code == 404
        assert await client.keys("data/futures/um/monthly/klines/") == []
        assert (await client.file(DAY)).status_code == 200


async def test_checksums_are_wrong_for_a_while_or_absent(
    client: Client, archive: PublicArchive, autojump_clock: MockClock
) -> None:
    """The zip itself is right."""
    path = UM_1M.format("daily", "2026-01-30")
    content = (await client.file(path)).content
    line = f"{hashlib.sha256(content).hexdigest()}  BTCUSDT-1m-2026-01-30.zip\n"
    with archive.faults.wrong_checksums(for_days=1.3):
        assert (await client.file(f"{path}.CHECKSUM")).text != line
        assert (await client.file(path)).content == content
        await trio.sleep(86_400)
        assert (await client.file(f"{path}.CHECKSUM")).text == line
    with archive.faults.no_checksums():
        assert (await client.file(f"{path}.CHECKSUM")).status_code == 404
        assert (await client.file(path)).status_code == 200
        assert not [each for each in await client.keys(path) if each.endswith("CHECKSUM")]


async def test_a_file_may_be_no_zip_with_a_right_checksum(
    client: Client, archive: PublicArchive
) -> None:
    """Only opening it shows that."""
    with archive.faults.no_zips():
        content = (await client.file(DAY)).content
        assert content.startswith(b"<html>")
        digest = hashlib.sha256(content).hexdigest()
        assert (await client.file(f"{DAY}.CHECKSUM")).text.startswith(digest)


async def test_a_file_may_be_of_another_time_s_shape(
    client: Client, archive: PublicArchive
) -> None:
    """Without a header, or in microseconds; the rows are the same."""
    true = await client.lines(DAY)
    with archive.faults.headers(False):
        assert await client.lines(DAY) == true[1:]
    with archive.faults.microseconds():
        told = await client.lines(DAY)
    first, true_first = told[1].split(","), true[1].split(",")
    assert (first[0], first[6]) == (f"{true_first[0]}000", f"{true_first[6]}999")


async def test_a_share_of_files_is_struck_and_always_the_same(
    twin: Exchange, nursery: trio.Nursery
) -> None:
    """With another seed others are."""
    prefix = "data/futures/um/daily/klines/BTCUSDT/1m/"
    found = []
    for seed in (1, 1, 2):
        twin.seed = seed
        archive = archive_of({"usdm": twin})
        transport = TwinNetwork(twin, nursery, archive).http_transport()
        async with Client(transport=transport) as client:
            with archive.faults.unpublished(share=0.3):
                found.append(await client.keys(prefix))
    assert found[0] == found[1] != found[2]
    assert all(2 * 20 < len(keys) < 2 * 36 for keys in found)


async def test_a_fault_strikes_only_where_it_is_to(client: Client, archive: PublicArchive) -> None:
    """By venue, symbol and interval."""
    hourly = DAY.replace("1m", "1h")
    with archive.faults.unpublished(venue="usdm", symbol="BTCUSDT", interval="1h"):
        assert (await client.file(hourly)).status_code == 404
        assert (await client.file(DAY)).status_code == 200
        assert (await client.file(hourly.replace("BTC", "ETH"))).status_code == 200
    with archive.faults.unpublished(venue="spot"):
        assert (await client.file(hourly)).status_code == 200


async def test_a_name_may_have_been_another_coin_s(
    client: Client, archive: PublicArchive, twin: Exchange
) -> None:
    """Its months are there, at other prices, and REST knows nothing of them."""
    until_ms = NOON_MS - 90 * DAY_MS
    with archive.reusing("usdm", "BTCUSDT", since_ms=until_ms - 40 * DAY_MS, until_ms=until_ms):
        months = await client.keys("data/futures/um/monthly/klines/BTCUSDT/1m/")
        assert {"2025-09", "2025-10", "2026-01"} <= {each[-11:-4] for each in months}
        rows = await client.lines(UM_1M.format("monthly", "2025-10"))
        assert len(rows) == 1 + 31 * 1_440
        query = {"symbol": "BTCUSDT", "interval": "1m", "startTime": str(opens(rows)[0])}
        first = (await client.get("https://fapi.binance.com/fapi/v1/klines", params=query)).json()[
            0
        ]
        assert first[0] == twin.market.listings[0].onboard_ms
    with pytest.raises(ValueError, match="has been this coin's"), ExitStack() as blocks:
        blocks.enter_context(
            archive.reusing("usdm", "BTCUSDT", since_ms=until_ms, until_ms=NOON_MS)
        )


async def test_requests_are_refused(client: Client, archive: PublicArchive) -> None:
    """With the bucket's own text, and with `Retry-After` if that is wanted."""
    with archive.faults.refusing(503, retry_after_s=7):
        answer = await client.file(DAY)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "7")
        assert "<Code>SlowDown</Code>" in answer.text
    with archive.faults.refusing(403):
        answer = await client.get("https://data.binance.vision/", params={"prefix": "data/"})
        assert (answer.status_code, "retry-after" in answer.headers) == (403, False)
    assert archive.faults.injected == {"refusing": 2}


async def test_bodies_are_slow_and_cut(
    client: Client, archive: PublicArchive, autojump_clock: MockClock
) -> None:
    """A slow one takes its time; a cut one ends in an error after half of it."""
    size = len((await client.file(DAY)).content)
    since_s = trio.current_time()
    with archive.faults.slow_bodies(1_000):
        await client.file(DAY)
    assert trio.current_time() - since_s == pytest.approx(size / 1_000)
    with archive.faults.cut_bodies(), pytest.raises(httpx2.ReadError):
        await client.file(DAY)


async def test_an_archive_that_hangs_resets(
    client: Client, archive: PublicArchive, autojump_clock: MockClock
) -> None:
    """Requests wait until it does."""

    async def ask() -> None:
        with pytest.raises(httpx2.ReadError):
            await client.file(DAY)

    async with trio.open_nursery() as nursery:
        with archive.faults.hanging():
            nursery.start_soon(ask)
            await trio.sleep(60)
            assert len(nursery.child_tasks) == 1
    assert (await client.file(DAY)).status_code == 200
