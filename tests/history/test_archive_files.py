"""Listings and zip files, as they are and as they should not be."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klineagent.core.errors import BadFrame
from klineagent.core.interval import Interval
from klineagent.history.archive.files import ArchivedSeries, FilePeriod, file_named, series_folder
from klineagent.history.archive.listing import read_page
from klineagent.history.archive.place import FolderArchive
from klineagent.history.archive.zips import (
    FileDamaged,
    inflated,
    member_of,
    sha256_in,
    sha256_of,
)

PAGE = b"""<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>data.binance.vision</Name>
<Prefix>data/</Prefix><Marker></Marker><NextMarker>data/b</NextMarker><IsTruncated>true</IsTruncated>
<Contents><Key>data/a&amp;b.zip</Key><LastModified>2026-02-02T08:30:00.000Z</LastModified>
<ETag>&quot;abc&quot;</ETag><Size>12</Size></Contents>
<CommonPrefixes><Prefix>data/b/</Prefix></CommonPrefixes></ListBucketResult>"""


def test_a_page_of_a_listing() -> None:
    """Keys, sizes, times, folders, and where the next page begins."""
    page = read_page(PAGE)
    [entry] = page.entries
    assert (entry.key, entry.size, entry.etag) == ("data/a&b.zip", 12, "abc")
    assert entry.modified == 1_770_021_000_000
    assert (page.folders, page.marker) == (("data/b/",), "data/b")


def test_without_a_marker_the_next_page_begins_behind_the_last_key() -> None:
    """So it is where there is no delimiter."""
    assert read_page(PAGE.replace(b"<NextMarker>data/b</NextMarker>", b"")).marker == "data/b/"
    assert read_page(PAGE.replace(b">true<", b">false<")).marker == ""


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html><body>no</body></html>",
        PAGE[:-20],
        PAGE.replace(b"<Size>12</Size>", b"<Size>x</Size>"),
        b'<!DOCTYPE a [<!ENTITY b "c">]><ListBucketResult>&b;</ListBucketResult>',
        b"<ListBucketResult>" + b"<a>" * 20 + b"</a>" * 20 + b"</ListBucketResult>",
    ],
)
def test_what_is_no_listing_is_an_error(body: bytes) -> None:
    """Also what would grow when it is read."""
    with pytest.raises(BadFrame):
        read_page(body)


@pytest.mark.parametrize(
    ("name", "period"),
    [
        ("BTCUSDT-1mo-2026-02.zip", FilePeriod.MONTHLY),
        ("BTCUSDT-1mo-2020-8.zip", FilePeriod.MONTHLY),
        ("BTCUSDT-1mo-2026-02-28.zip", FilePeriod.DAILY),
        ("BTCUSDT-1mo-2026-02.zip.CHECKSUM", None),
        ("BTCUSDT-1m-2026-02.zip", None),
        ("BTCUSDT-1mo-2026-13.zip", None),
        ("BTCUSDT-1mo-2026-02-30.zip", None),
    ],
)
def test_a_name_says_what_a_file_covers(name: str, period: FilePeriod | None) -> None:
    """Months may have one digit; what is none of ours is none."""
    series = ArchivedSeries("spot", "BTCUSDT", Interval.MO1)
    places = [series_folder(series, each) for each in FilePeriod]
    files = [file_named(series, place + name, size=1, etag="", published=0) for place in places]
    assert [each.period for each in files if each is not None] == ([period] if period else [])


def test_a_file_lies_in_the_folder_of_its_series() -> None:
    """Whatever a listing says: its key is what is asked for, and the name of its record."""
    series = ArchivedSeries("spot", "BTCUSDT", Interval.M1)
    name = "BTCUSDT-1m-2026-02.zip"
    for place in ("", "../", "data/spot/monthly/klines/ETHUSDT/1m/"):
        assert file_named(series, place + name, size=1, etag="", published=0) is None


def a_zip(text: bytes, *, names: int = 1, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip with the text in each of its members."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", compression) as archive:
        for number in range(names):
            archive.writestr(f"{number}.csv", text)
    return packed.getvalue()


@given(st.binary(max_size=300), st.sampled_from([zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED]))
def test_a_member_comes_out_as_it_went_in(text: bytes, compression: int) -> None:
    """As gzip, which databases read."""
    member = member_of(a_zip(text, compression=compression), most_bytes=300)
    assert inflated(member.gz) == text
    assert zlib.decompress(member.gz, wbits=31) == text
    assert member.has_header == (text[:1] != b"" and not text[:1].isdigit())


@given(st.binary(max_size=60), st.integers(0, 200), st.integers(1, 255))
def test_what_is_no_zip_is_damaged_and_nothing_worse(junk: bytes, at: int, change: int) -> None:
    """Junk, and a zip with a byte that is wrong: if it can be read, it is as it was."""
    text = b"1,2,3\n" * 40
    whole = bytearray(a_zip(text))
    whole[at % len(whole)] ^= change
    for content in (junk, bytes(whole)):
        with suppress(FileDamaged):
            assert inflated(member_of(content, most_bytes=1_000).gz) == text


@pytest.mark.parametrize("names", [0, 2])
def test_there_is_one_file_in_a_zip(names: int) -> None:
    """None or two are not the archive's."""
    with pytest.raises(FileDamaged, match=f"it holds {names} files"):
        member_of(a_zip(b"1", names=names), most_bytes=1)


def test_what_would_fill_a_memory_is_damaged() -> None:
    """Whether the zip file says how long it is, or says something else."""
    zeros = b"0" * 3_000_000
    with pytest.raises(FileDamaged, match="it would have 3000000 bytes"):
        member_of(a_zip(zeros), most_bytes=2_999_999)
    lying = a_zip(zeros).replace(struct.pack("<I", len(zeros)), struct.pack("<I", 100))
    with pytest.raises(FileDamaged, match="it is not as long as it says"):
        member_of(lying, most_bytes=1_000)


async def test_no_more_is_read_than_is_expected(tmp_path: Path) -> None:
    """A file that has become longer than its listing says is damaged."""
    (tmp_path / "file").write_bytes(b"12345")
    archive = FolderArchive(tmp_path)
    assert await archive.content("file", most_bytes=5) == b"12345"
    with pytest.raises(FileDamaged, match="longer than 4 bytes"):
        await archive.content("file", most_bytes=4)


def test_a_checksum_is_the_first_word() -> None:
    """With or without a newline."""
    digest = sha256_of(b"1")
    assert sha256_in(f"{digest}  name.zip".encode()) == digest
    assert sha256_in(f"{digest.upper()} *name.zip\n".encode()) == digest
    with pytest.raises(FileDamaged):
        sha256_in(b"<html>")
