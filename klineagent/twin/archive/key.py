"""The names of the archive's files. Pure.

Deliberately not taken from `klineagent.history`: a wrong name there must not be confirmed by the
same error here.
"""

from __future__ import annotations

import enum
import re
from datetime import UTC, date, datetime, timedelta
from hashlib import blake2b

from attrs import field, frozen

from klineagent.twin.interval import DAY_MS, SECOND_MS, TwinInterval

FOLDERS = {"spot": "spot", "usdm": "futures/um", "coinm": "futures/cm"}
"""The folder of each venue below `data/`."""
CHECKSUM = ".CHECKSUM"
"""What the name of a checksum has after that of its file."""

_VENUES = {folder: name for name, folder in FOLDERS.items()}
_INTERVALS = {"1mo" if each is TwinInterval.MO1 else each.value: each for each in TwinInterval}
_NAMES = {interval: name for name, interval in _INTERVALS.items()}
_ONLY_MONTHLY = frozenset({TwinInterval.D3, TwinInterval.W1, TwinInterval.MO1})
_PATH = re.compile(
    r"data/(spot|futures/um|futures/cm)/(daily|monthly)/klines/([^/]+)/([0-9a-z]+)/"
    r"(\3-\4-([0-9]{4})-([0-9]{2})(?:-([0-9]{2}))?)\.zip"
)


class Cadence(enum.Enum):
    """The time that a file covers."""

    DAILY = "daily"
    MONTHLY = "monthly"

    def intervals(self, venue_name: str) -> list[TwinInterval]:
        """The intervals that a venue has such files of."""
        return [
            interval
            for interval in TwinInterval
            if (self is Cadence.MONTHLY or interval not in _ONLY_MONTHLY)
            and (venue_name == "spot" or interval is not TwinInterval.S1)
        ]

    def first_day(self, day: date) -> date:
        """The first day of the file that covers `day`."""
        return day if self is Cadence.DAILY else day.replace(day=1)

    def after(self, first_day: date) -> date:
        """The first day of the file that follows."""
        if self is Cadence.DAILY:
            return first_day + timedelta(days=1)
        return (first_day + timedelta(days=31)).replace(day=1)


@frozen
class TwinFile:
    """A file of the archive: a series of candles in a day or month; times are milliseconds."""

    venue_name: str
    cadence: Cadence
    symbol: str
    interval: TwinInterval
    first_day: date
    path: str = field(init=False)
    """The key of its zip."""

    @path.default
    def _path(self) -> str:
        folder = folder_of(self.venue_name, self.cadence, self.symbol, self.interval)
        return f"{folder}{self.stem}.zip"

    @property
    def stem(self) -> str:
        """Its name without `.zip`."""
        period = (
            f"{self.first_day:%Y-%m-%d}"
            if self.cadence is Cadence.DAILY
            else f"{self.first_day:%Y-%m}"
        )
        return f"{self.symbol}-{_NAMES[self.interval]}-{period}"

    @property
    def start_ms(self) -> int:
        """The first time that it covers."""
        return day_start_ms(self.first_day)

    @property
    def end_ms(self) -> int:
        """The first time after what it covers."""
        return day_start_ms(self.cadence.after(self.first_day))


def folder_of(venue_name: str, cadence: Cadence, symbol: str, interval: TwinInterval) -> str:
    """The prefix of all keys of a series."""
    return f"data/{FOLDERS[venue_name]}/{cadence.value}/klines/{symbol}/{_NAMES[interval]}/"


def parse_folder(prefix: str) -> tuple[str, Cadence, list[str]] | None:
    """Read the venue and cadence of a prefix, and the folders after `klines/` in it."""
    for folder, venue_name in _VENUES.items():
        for cadence in Cadence:
            home = f"data/{folder}/{cadence.value}/klines/"
            if prefix.startswith(home):
                return venue_name, cadence, prefix.removeprefix(home).split("/")[:-1]
    return None


def interval_of(name: str) -> TwinInterval | None:
    """The interval with a name of the archive's; None if there is none."""
    return _INTERVALS.get(name)


def parse_path(path: str) -> TwinFile | None:
    """Read the key of a zip; None if the archive has no such name."""
    match = _PATH.fullmatch(path)
    if match is None:
        return None
    folder, cadence_name, symbol, interval_name, _, year, month, day = match.groups()
    venue_name, cadence, interval = (
        _VENUES[folder],
        Cadence(cadence_name),
        _INTERVALS.get(interval_name),
    )
    if (day is None) is (cadence is Cadence.DAILY) or interval not in cadence.intervals(venue_name):
        return None
    try:
        first_day = date(int(year), int(month), int(day or 1))
    except ValueError:
        return None
    return TwinFile(venue_name, cadence, symbol, interval, first_day)


def day_start_ms(day: date) -> int:
    """Midnight UTC of `day`."""
    return (day - date(1970, 1, 1)).days * DAY_MS


def day_of(time_ms: int) -> date:
    """The UTC day of a time."""
    return datetime.fromtimestamp(time_ms // SECOND_MS, UTC).date()


def number_of(text: str) -> int:
    """A number that looks random, the same for the same text."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")
