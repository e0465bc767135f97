from __future__ import annotations

import io
import shutil
import subprocess
import zipfile
import zlib
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klineagent.twin.archive.key import parse_path
from klineagent.twin.archive.zipped import size_of, zip_of
from tests.twin.archive.samples import UM_1M

FILE = parse_path(UM_1M.format("daily", "2026-01-30"))


@given(st.binary(max_size=600), st.integers(700, 800))
def test_a_zip_has_the_size_that_was_told(text: bytes, more: int) -> None:
    """Every reader finds one whole file in it; so does one that unpacks the stream alone."""
    assert FILE is not None
    size = size_of(FILE, 0) + more
    content = zip_of(FILE, text, size, date(2026, 1, 31))
    assert len(content) == size
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        assert opened.testzip() is None
        [entry] = opened.infolist()
        assert (entry.filename, entry.date_time[:3]) == (f"{FILE.stem}.csv", (2026, 1, 31))
        assert opened.read(entry) == text
    start = 30 + len(entry.filename)
    stream = content[start : start + entry.compress_size]
    assert zlib.decompress(stream, -zlib.MAX_WBITS) == text


@pytest.mark.skipif(shutil.which("unzip") is None, reason="no unzip here")
def test_unzip_finds_nothing_to_complain_about(tmp_path: Path) -> None:
    """Neither about the filling nor about a name outside ASCII."""
    file = parse_path("data/spot/daily/klines/币安人生USDT/1m/币安人生USDT-1m-2026-01-30.zip")
    assert file is not None
    path = tmp_path / "file.zip"
    path.write_bytes(zip_of(file, b"1,2\n" * 500, size_of(file, 500), date(2026, 1, 31)))
    tested = subprocess.run(["unzip", "-t", path], capture_output=True, text=True, check=True)
    assert "No errors detected" in tested.stdout
