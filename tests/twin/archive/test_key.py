from __future__ import annotations

from datetime import date

import pytest

from klineagent.twin.archive.key import Cadence, TwinFile, parse_path
from klineagent.twin.interval import TwinInterval
from tests.places import ARCHIVE


@pytest.mark.parametrize(
    "path",
    [
        "data/spot/daily/klines/BTCUSDT/1s/BTCUSDT-1s-2025-01-01.zip",
        "data/futures/um/monthly/klines/BTCUSDT_260327/1mo/BTCUSDT_260327-1mo-2026-02.zip",
        "data/futures/cm/daily/klines/BTCUSD_PERP/12h/BTCUSD_PERP-12h-2024-02-29.zip",
        "data/spot/monthly/klines/币安人生USDT/1w/币安人生USDT-1w-2025-12.zip",
    ],
)
def test_a_path_is_read_as_it_is_written(path: str) -> None:
    """A month is called `1mo`, and a name may be outside ASCII."""
    file = parse_path(path)
    assert file is not None
    assert file.path == path


@pytest.mark.parametrize(
    "path",
    [
        "data/futures/um/daily/klines/BTCUSDT/1s/BTCUSDT-1s-2025-01-01.zip",
        "data/spot/daily/klines/BTCUSDT/1w/BTCUSDT-1w-2025-01-01.zip",
        "data/spot/daily/klines/BTCUSDT/1m/BTCUSDT-1m-2025-01.zip",
        "data/spot/monthly/klines/BTCUSDT/1m/BTCUSDT-1m-2025-01-01.zip",
        "data/spot/monthly/klines/BTCUSDT/1M/BTCUSDT-1M-2025-01.zip",
        "data/spot/daily/klines/BTCUSDT/1m/BTCUSDT-1m-2025-02-29.zip",
        "data/spot/daily/klines/BTCUSDT/1m/ETHUSDT-1m-2025-01-01.zip",
        "data/spot/daily/aggTrades/BTCUSDT/BTCUSDT-aggTrades-2025-01-01.zip",
    ],
)
def test_what_the_archive_does_not_have_is_no_path(path: str) -> None:
    """Seconds of futures, weeks by the day, days that are none."""
    assert parse_path(path) is None


def test_a_file_covers_whole_days() -> None:
    """A month to its last; times are UTC."""
    month = TwinFile("spot", Cadence.MONTHLY, "BTCUSDT", TwinInterval.M1, date(2024, 2, 1))
    assert (month.end_ms - month.start_ms) // 86_400_000 == 29


@pytest.mark.skipif(not ARCHIVE.exists(), reason=f"no archive at {ARCHIVE}")
def test_real_paths_are_understood() -> None:
    """All of them."""
    paths = [each.relative_to(ARCHIVE).as_posix() for each in ARCHIVE.rglob("*.zip")]
    files = [parse_path(each) for each in paths]
    assert [each and each.path for each in files] == paths
    assert len(paths) > 10
