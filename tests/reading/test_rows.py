"""Rows as text, held against what the exchange has written."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from klineagent.core.interval import Interval
from klineagent.exchange.rest_answers import read_exchange_info
from klineagent.exchange.venues import USDM
from klineagent.exchange.wire import RestCandle
from klineagent.reading.rows import RowFormat, body_of, in_microseconds
from tests.archived import Row, archived
from tests.places import ARCHIVE, RECORDED

SYMBOLS = ("ALGOUSDT", "AVAXUSDT", "DOTUSDT", "FILUSDT", "LINKUSDT", "LTCUSDT", "NEARUSDT")
FIELDS = (
    *("open_time", "open", "high", "low", "close", "volume", "close_time"),
    *("quote_volume", "count", "taker_buy_volume", "taker_buy_quote_volume"),
)
_decode = msgspec.json.Decoder(RestCandle, strict=False).decode


def as_answered(row: Row) -> bytes:
    """An archived row as the REST API writes it: there a zero has decimals, too."""
    texts = [row[name] for name in FIELDS]
    places = {name: len(row[name].partition(".")[2]) for name in ("volume", "quote_volume")}
    if row["taker_buy_volume"] == "0":
        texts[-2] = f"{0:.{places['volume']}f}"
    if row["taker_buy_quote_volume"] == "0":
        texts[-1] = f"{0:.{places['quote_volume']}f}"
    quoted = [text if at in {0, 6, 8} else f'"{text}"' for at, text in enumerate(texts)]
    return f'[{",".join(quoted)},"0"]'.encode()


@pytest.mark.skipif(not ARCHIVE.exists(), reason="the archive is not beside the checkout")
@pytest.mark.parametrize("symbol", SYMBOLS)
async def test_rows_of_the_archive_are_written_as_the_exchange_did(symbol: str) -> None:
    """Through the numbers of a row of ours, and with the decimals of exchangeInfo."""
    info = await read_exchange_info((RECORDED / "exchangeInfo-usdm-2021.json").read_bytes(), USDM)
    written = RowFormat.of(info.symbols[symbol], USDM)
    rows = [as_answered(row) for row in archived(symbol).values()]
    assert len(rows) >= 1_440
    for text in rows:
        assert written.row(_decode(text).as_closed("usdm", symbol, Interval.M1)) == text


def test_an_answer_without_rows_is_a_list() -> None:
    """As the exchange answers for times without candles."""
    assert body_of([]) == b"[]"


@given(st.integers(1, 10**13), st.integers(1, 10**13))
def test_microseconds_are_those_of_the_same_times(open_ms: int, close_ms: int) -> None:
    """A close time is the last microsecond before the next candle."""
    given_row: list[Any] = [open_ms, *["1.5"] * 5, close_ms, "2.5", 7, "3.5", "4.5", "0"]
    row = in_microseconds(msgspec.json.encode(given_row))
    fields = msgspec.json.decode(row)
    assert (fields[0], fields[6]) == (open_ms * 1_000, close_ms * 1_000 + 999)
    assert fields[1:6] == ["1.5"] * 5
    assert fields[7:] == ["2.5", 7, "3.5", "4.5", "0"]
