from __future__ import annotations

import csv
import hashlib
import io
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from klineagent.core.errors import ConfigError
from klineagent.core.interval import DAY_MS, MINUTE_MS
from klineagent.twin.market.archive import open_archive
from tests.places import ARCHIVE

DAY = 1_769_904_000_000  # 2026-02-01T00:00Z
HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,"
    "taker_buy_volume,taker_buy_quote_volume,ignore"
)
real_data = pytest.mark.skipif(not ARCHIVE.exists(), reason=f"no archive at {ARCHIVE}")


def row(open_ms: int, *, price: str = "10.50", trades: int = 3, scale: int = 1) -> str:
    """A line of a CSV file; `scale` 1000 makes its times microseconds."""
    close_ms = (open_ms + MINUTE_MS) * scale - 1
    prices = ",".join([price] * 4)
    return f"{open_ms * scale},{prices},1.500,{close_ms},15.75000,{trades},0.500,5.25000,0"


def put(
    folder: Path,
    date: str,
    rows: Iterable[str],
    *,
    market: str = "futures/um",
    symbol: str = "ABCUSDT",
    header: bool = True,
) -> Path:
    """Write one archive file in the exchange's layout."""
    kind = "daily" if date.count("-") > 1 else "monthly"
    home = folder / "data" / market / kind / "klines" / symbol / "1m"
    home.mkdir(parents=True, exist_ok=True)
    path = home / f"{symbol}-1m-{date}.zip"
    lines = [HEADER, *rows] if header else list(rows)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{path.stem}.csv", "\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("header", [True, False])
def test_header_rows_are_recognized(tmp_path: Path, header: bool) -> None:
    """Files with and without a header yield the same candles."""
    put(tmp_path, "2026-02-01", [row(DAY), row(DAY + MINUTE_MS)], header=header)
    market = open_archive(tmp_path, "usdm")
    candle = market.minute("ABCUSDT", DAY)
    assert candle is not None
    assert (candle.open, candle.volume, candle.quote_volume) == (1_050, 1_500, 1_575_000)
    (listing,) = market.listings
    assert (listing.price_places, listing.quantity_places, listing.quote_places) == (2, 3, 5)
    assert (listing.base, listing.quote) == ("ABC", "USDT")


def test_microseconds_are_recognized_by_their_magnitude(tmp_path: Path) -> None:
    """Spot files since 2025 use microseconds."""
    put(tmp_path, "2026-02-01", [row(DAY, scale=1_000)], market="spot", header=False)
    market = open_archive(tmp_path, "spot")
    candle = market.minute("ABCUSDT", DAY)
    assert candle is not None
    assert candle.open == 1_050_000_000
    assert (market.start_ms, market.end_ms) == (DAY, DAY + MINUTE_MS)


def test_daily_files_win_over_monthly_ones(tmp_path: Path) -> None:
    """A month fills the days that have no file of their own."""
    put(tmp_path, "2026-02-01", [row(DAY, price="11.00")])
    put(tmp_path, "2026-02", [row(DAY, price="22.00"), row(DAY + DAY_MS, price="33.00")])
    market = open_archive(tmp_path, "usdm")
    first, second = (market.minute("ABCUSDT", DAY + day * DAY_MS) for day in range(2))
    assert first is not None
    assert second is not None
    assert (first.open, second.open) == (1_100, 3_300)


def test_trades_are_numbered_consecutively(tmp_path: Path) -> None:
    """Over all traded minutes; a quiet minute has no ids, a missing one no candle."""
    rows = [row(DAY), row(DAY + MINUTE_MS, trades=0), row(DAY + 3 * MINUTE_MS, trades=2)]
    put(tmp_path, "2026-02-01", rows)
    market = open_archive(tmp_path, "usdm")
    first, quiet, missing, last = (market.minute("ABCUSDT", DAY + n * MINUTE_MS) for n in range(4))
    assert missing is None
    assert [(c.first_trade, c.last_trade) for c in (first, quiet, last) if c] == [
        (1, 3),
        (-1, -1),
        (4, 5),
    ]


def test_the_clock_starts_when_every_symbol_has_candles(tmp_path: Path) -> None:
    """The start is the youngest symbol's first candle."""
    put(tmp_path, "2026-02-01", [row(DAY), row(DAY + MINUTE_MS)])
    put(tmp_path, "2026-02-01", [row(DAY + MINUTE_MS)], symbol="XYZUSDT")
    assert open_archive(tmp_path, "usdm").start_ms == DAY + MINUTE_MS


def test_a_wrong_checksum_is_an_error(tmp_path: Path) -> None:
    """A file that does not match its checksum is rejected; one that does is read."""
    path = put(tmp_path, "2026-02-01", [row(DAY)])
    checksum = path.with_name(f"{path.name}.CHECKSUM")
    checksum.write_text(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n")
    open_archive(tmp_path, "usdm")
    checksum.write_text(f"{'0' * 64}  {path.name}\n")
    with pytest.raises(ConfigError, match="SHA-256"):
        open_archive(tmp_path, "usdm")


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    """The message says where candles are expected."""
    with pytest.raises(ConfigError, match=r"no 1m klines in .*futures/um"):
        open_archive(tmp_path, "usdm")


@pytest.mark.parametrize("line", ["1769904000000,1,2", f"{row(DAY).replace('10.50', 'ten')}"])
def test_an_invalid_row_is_an_error(tmp_path: Path, line: str) -> None:
    """Too few columns, or text instead of numbers; the message names the symbol."""
    put(tmp_path, "2026-02-01", [line])
    with pytest.raises(ConfigError, match="ABCUSDT"):
        open_archive(tmp_path, "usdm")


def test_a_file_that_is_no_zip_is_an_error(tmp_path: Path) -> None:
    """The message names the file."""
    path = put(tmp_path, "2026-02-01", [row(DAY)])
    path.write_bytes(b"not found")
    with pytest.raises(ConfigError, match=path.name):
        open_archive(tmp_path, "usdm")


@pytest.mark.slow
@real_data
def test_the_real_archive_has_every_minute() -> None:
    """Seven symbols are complete from February 1 on, monthly file included."""
    market = open_archive(ARCHIVE, "usdm")
    assert market.start_ms == DAY
    assert "AVAXUSDT" in {listing.symbol for listing in market.listings}
    for listing in market.listings:
        for minute in range(3 * 24 * 60):
            assert market.minute(listing.symbol, DAY + minute * MINUTE_MS) is not None


def test_csv_text_of_the_helper_has_twelve_columns() -> None:
    """The rows of these tests have the archive's format."""
    assert len(next(csv.reader(io.StringIO(row(DAY))))) == len(HEADER.split(","))
