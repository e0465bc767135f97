"""The exchange's public archive of candles as a market.

Layout of data.binance.vision: `data/{spot|futures/um|futures/cm}/{daily|monthly}/klines/SYMBOL/1m/`
with `SYMBOL-1m-YYYY-MM[-DD].zip`, one CSV each, and `<zip>.CHECKSUM` beside it.
"""

from __future__ import annotations

import csv
import hashlib
import io
import zipfile
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from attrs import define, frozen

from klineagent.core.errors import ConfigError
from klineagent.twin.interval import DAY_MS, MINUTE_MS
from klineagent.twin.market.candle import Candle, flat, from_text
from klineagent.twin.market.listings import COINM_QUOTE_PLACES, SPOT_PLACES
from klineagent.twin.market.market import Listing

_FOLDERS = {"usdm": "futures/um", "coinm": "futures/cm", "spot": "spot"}
# Four forming updates a minute and the close: more would have to be invented.
_TICK_MS = 15_000
# Spot archives use microseconds since 2025; milliseconds reach this value in the year 5138.
_MICROSECONDS_FROM = 100_000_000_000_000
# Longest first: BTCUSDT is BTC in USDT, not BTCUS in DT.
_QUOTES = ("FDUSD", "USDT", "USDC", "BUSD", "TUSD", "USD", "EUR", "TRY", "BTC", "ETH", "BNB")

# Columns of the archive's CSV files.
_OPEN_TIME, _VOLUME, _QUOTE_VOLUME, _TRADES, _TAKER, _TAKER_QUOTE = 0, 5, 7, 8, 9, 10
_PRICES = slice(1, 5)

_Row = list[str]


@define(kw_only=True)
class ArchiveMarket:
    """The candles of an archive; see `Market`.

    It starts when every symbol has candles; older candles are served over REST.
    """

    listings: tuple[Listing, ...]
    start_ms: int
    end_ms: int
    tick_ms: int = _TICK_MS
    _minutes: dict[str, dict[int, Candle]]

    def minute(self, symbol: str, open_ms: int) -> Candle | None:
        """See `Market`."""
        minutes = self._minutes.get(symbol)
        return None if minutes is None else minutes.get(open_ms)


def open_archive(folder: Path, venue_name: str) -> ArchiveMarket:
    """Read every symbol's 1m candles below `folder`, the one that contains `data/`.

    Daily files take precedence over monthly ones, which are known to miss days.

    Raises:
        ConfigError: there are no candles, or a file is damaged or does not match its checksum.
    """
    home = folder / "data" / _FOLDERS[venue_name]
    symbols = sorted({path.name for path in home.glob("*/klines/*") if (path / "1m").is_dir()})
    series = [_read_symbol(home, symbol, venue_name) for symbol in symbols]
    series = [each for each in series if each.minutes]
    if not series:
        raise ConfigError(
            f"no 1m klines in {home}; expected {{daily,monthly}}/klines/SYMBOL/1m/*.zip"
        )
    return ArchiveMarket(
        listings=tuple(each.listing for each in series),
        start_ms=max(min(each.minutes) for each in series),
        end_ms=max(max(each.minutes) for each in series) + MINUTE_MS,
        minutes={each.listing.symbol: each.minutes for each in series},
    )


@frozen
class _SymbolCandles:
    listing: Listing
    minutes: dict[int, Candle]


def _read_symbol(home: Path, symbol: str, venue_name: str) -> _SymbolCandles:
    try:
        rows = _read_rows(home, symbol)
        listing = _listing_of(symbol, venue_name, rows)
        minutes = {candle.open_time: candle for candle in _candles(rows, listing)}
    except (ValueError, IndexError) as error:
        raise ConfigError(f"the archive of {symbol} has an invalid row: {error}") from error
    return _SymbolCandles(listing, minutes)


def _read_rows(home: Path, symbol: str) -> list[_Row]:
    """Read all rows of a symbol, ascending; monthly files fill days without a daily file."""
    daily = [_read_zip(path) for path in _zips(home, "daily", symbol)]
    covered = {_open_time(row) // DAY_MS for rows in daily for row in rows[:1]}
    rows = list(chain.from_iterable(daily))
    for path in _zips(home, "monthly", symbol):
        rows += [row for row in _read_zip(path) if _open_time(row) // DAY_MS not in covered]
    rows.sort(key=_open_time)
    return rows


def _zips(home: Path, kind: str, symbol: str) -> list[Path]:
    return sorted((home / kind / "klines" / symbol / "1m").glob(f"{symbol}-1m-*.zip"))


def _read_zip(path: Path) -> list[_Row]:
    """Verify the checksum of `path` and read the rows of its CSV, without the header."""
    try:
        content = path.read_bytes()
        _verify(path, content)
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            text = archive.read(path.with_suffix(".csv").name).decode()
    except (OSError, KeyError, zipfile.BadZipFile, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    rows = [row for row in csv.reader(io.StringIO(text)) if row]
    # Some files have a header; only the first character shows which.
    return rows[1:] if rows and not rows[0][0][:1].isdigit() else rows


def _verify(path: Path, content: bytes) -> None:
    checksum = path.with_name(f"{path.name}.CHECKSUM")
    if not checksum.exists():
        return
    expected = checksum.read_text().split(maxsplit=1)[0]
    actual = hashlib.sha256(content).hexdigest()
    if actual != expected:
        raise ConfigError(
            f"{path} is damaged or was replaced: its SHA-256 differs from {checksum.name}"
        )


def _open_time(row: _Row) -> int:
    time = int(row[_OPEN_TIME])
    return time // 1_000 if time >= _MICROSECONDS_FROM else time


def _listing_of(symbol: str, venue_name: str, rows: Sequence[_Row]) -> Listing:
    pair = symbol.partition("_")[0]
    quote = next((quote for quote in _QUOTES if pair.endswith(quote)), "")
    if venue_name == "spot":
        price_places = quantity_places = quote_places = SPOT_PLACES
    else:
        price_places = _places(chain.from_iterable(row[_PRICES] for row in rows))
        quantity_places = _places(row[column] for row in rows for column in (_VOLUME, _TAKER))
        quote_places = _places(
            row[column] for row in rows for column in (_QUOTE_VOLUME, _TAKER_QUOTE)
        )
    is_inverse = venue_name == "coinm"
    return Listing(
        symbol=symbol,
        base=pair.removesuffix(quote),
        quote=quote,
        price_places=price_places,
        quantity_places=quantity_places,
        quote_places=max(quote_places, COINM_QUOTE_PLACES) if is_inverse else quote_places,
        onboard_ms=_open_time(rows[0]) if rows else 0,
        contract_size=(100 if pair == "BTCUSD" else 10) if is_inverse else None,
    )


def _places(decimals: Iterator[str]) -> int:
    """The largest number of decimal places in `decimals`."""
    return max((len(text.partition(".")[2]) for text in decimals), default=0)


def _candles(rows: Sequence[_Row], listing: Listing) -> Iterator[Candle]:
    """Yield the candles of `rows`, which must be ascending.

    The archive has no trade ids; trades are numbered from 1.
    """
    prices, quantities, quotes = listing.price_places, listing.quantity_places, listing.quote_places
    next_trade = 1
    for row in rows:
        opened, high, low, close = (from_text(text, prices) for text in row[_PRICES])
        trades = int(row[_TRADES])
        if not trades:
            yield flat(_open_time(row), close)
            continue
        yield Candle(
            _open_time(row),
            opened,
            high,
            low,
            close,
            from_text(row[_VOLUME], quantities),
            from_text(row[_QUOTE_VOLUME], quotes),
            trades,
            from_text(row[_TAKER], quantities),
            from_text(row[_TAKER_QUOTE], quotes),
            next_trade,
            next_trade + trades - 1,
        )
        next_trade += trades
