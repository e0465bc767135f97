"""Invalid elements of an answer are left out, and others kept."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from klineagent.core.errors import BadFrame, ExchangeRefused
from klineagent.core.interval import MINUTE_MS
from klineagent.exchange import rest_answers
from klineagent.exchange.rest_answers import (
    PART_BYTES,
    SymbolList,
    read_candles,
    read_exchange_info,
    read_server_time,
)
from klineagent.exchange.venues import COINM, USDM, Venue

OPEN_MS = 1_769_904_000_000


def _row(minute: int, **changed: Any) -> list[Any]:
    open_ms = OPEN_MS + minute * MINUTE_MS
    row = {
        "open_time": open_ms,
        "open": "2",
        "high": "4",
        "low": "1",
        "close": "3",
        "volume": "10",
        "close_time": open_ms + MINUTE_MS - 1,
        "quote_volume": "25",
        "trades": 7,
        "taker_buy_volume": "6",
        "taker_buy_quote_volume": "15",
    }
    assert changed.keys() <= row.keys()
    return [*(row | changed).values(), "0"]


def _minutes(*rows: object) -> tuple[list[int], int]:
    """The minutes read from an answer with `rows`, and the number of rows left out."""
    answer = read_candles(json.dumps(rows).encode())
    return [(each.open_time - OPEN_MS) // MINUTE_MS for each in answer.candles], answer.odd


# Candles


def test_a_page_is_read() -> None:
    """In its order; an empty page is valid."""
    assert _minutes(_row(0), _row(1), _row(2)) == ([0, 1, 2], 0)
    assert _minutes() == ([], 0)


@pytest.mark.parametrize(
    "odd",
    [
        None,
        {},
        "row",
        17,
        [],
        _row(1)[:10],
        _row(1, close=None),
        _row(1, close="NaN"),
        _row(1, open="nan"),
        _row(1, high="inf"),
        _row(1, volume="-0.1"),
        _row(1, taker_buy_volume="-1"),
        _row(1, taker_buy_volume="10.1"),
        _row(1, taker_buy_quote_volume="26"),
        _row(1, low="2.5"),
        _row(1, high="2.5"),
        _row(1, low="-1"),
        _row(1, trades=2**32),
        _row(1, trades=-1),
        _row(1, trades=1.5),
        _row(1, open_time=-1),
        _row(1, open_time=2**63),
        _row(1, open_time=OPEN_MS * 1000),
        _row(1, close_time=OPEN_MS),
        _row(1, close_time=None),
    ],
    ids=str,
)
def test_an_invalid_row_is_left_out(odd: object) -> None:
    """Whatever its flaw, the candles beside it are kept."""
    assert _minutes(_row(0), odd, _row(2)) == ([0, 2], 1)


def test_of_two_rows_that_differ_neither_is_kept() -> None:
    """It is unknown which is right; equal rows count once."""
    assert _minutes(_row(0), _row(1), _row(1, close="2"), _row(2)) == ([0, 2], 2)
    assert _minutes(_row(0), _row(1), _row(1), _row(2)) == ([0, 1, 2], 0)


def test_rounding_is_no_flaw() -> None:
    """Volumes are sums of decimals, and floats here."""
    assert _minutes(_row(0, volume="0.3", taker_buy_volume="0.30000000000000004")) == ([0], 0)
    assert _minutes(_row(0, volume="0", taker_buy_volume="0", trades=0)) == ([0], 0)


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"null", b'{"code":1}', b"[[1,", b"\xff", b"[" * 9999]
)
def test_an_answer_that_is_no_list_is_a_bad_frame(body: bytes) -> None:
    """The exchange is in trouble."""
    with pytest.raises(BadFrame, match="no klines"):
        read_candles(body)


# Symbols


def _symbol(name: str, **changed: Any) -> dict[str, Any]:
    symbol = {
        "symbol": name,
        "status": "TRADING",
        "contractStatus": "TRADING",
        "quoteAsset": "USDT",
    }
    return symbol | changed


@pytest.mark.parametrize("venue", [USDM, COINM], ids=["usdm", "coinm"])
@pytest.mark.parametrize(
    ("odd", "names"),
    [
        (None, set()),
        (5, set()),
        ({}, set()),
        ({"symbol": None}, set()),
        ({"symbol": ""}, set()),
        (_symbol("ETHUSDT", status=None, contractStatus=None), {"ETHUSDT"}),
        (_symbol("ETHUSDT", status="", contractStatus=""), {"ETHUSDT"}),
        (_symbol("ETHUSDT", quoteAsset=[]), {"ETHUSDT"}),
        ({"symbol": "ETHUSDT"}, {"ETHUSDT"}),
    ],
    ids=str,
)
async def test_an_invalid_symbol_is_left_out(odd: object, names: set[str], venue: Venue) -> None:
    """Its name is reported if it can be read."""
    body = json.dumps({"symbols": [_symbol("BTCUSDT"), odd, _symbol("SOLUSDT")]}).encode()
    answer = await read_exchange_info(body, venue)
    assert list(answer.symbols) == ["BTCUSDT", "SOLUSDT"]
    assert (answer.odd, set(answer.odd_names)) == (1, names)


@pytest.mark.parametrize("date", [None, -1, "soon", 1.5, 10**40, OPEN_MS * 1000, True, []])
async def test_an_impossible_listing_date_is_ignored(date: object) -> None:
    """The symbol is kept."""
    body = json.dumps({"symbols": [_symbol("BTCUSDT", onboardDate=date)]}).encode()
    answer = await read_exchange_info(body, USDM)
    assert answer.symbols["BTCUSDT"].is_trading
    assert (answer.symbols["BTCUSDT"].onboard_ms, answer.odd) == (0, 0)


@pytest.mark.parametrize("places", [None, -1, 18, "2", 2.0, True])
async def test_places_that_cannot_be_are_unknown(places: object) -> None:
    """The symbol is as good as any other."""
    body = json.dumps({"symbols": [_symbol("BTCUSDT", pricePrecision=places)]}).encode()
    symbols = await read_exchange_info(body, USDM)
    assert (symbols.symbols["BTCUSDT"].price_places, symbols.odd) == (None, 0)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"symbols":null}',
        b'{"symbols":[{}]}',
        b'{"symbols":[null]}',
        b'{"symbols":[]}',
        b"\xff",
        b'{"x":' + b"[" * 100_000,
    ],
)
async def test_an_answer_without_any_symbol_is_a_refusal(body: bytes) -> None:
    """A list without symbols is not believed."""
    with pytest.raises(ExchangeRefused, match=r"exchangeInfo (cannot be read|lists no symbol)"):
        await read_exchange_info(body, USDM)


@given(
    st.lists(
        st.sampled_from(
            [
                _symbol("BTCUSDT"),
                _symbol("ETHUSDT"),
                _symbol("币安人生USDT"),
                _symbol("ETHUSDT", status=""),
                _symbol("SOLUSDT", pairs=[{"x": 1}, {"symbol": "NOT"}, {"symbol": "THIS"}]),
                _symbol("SOLUSDT", note='"symbols":[,{"symbol":'),
                {"symbol": None},
                17,
            ]
        ),
        max_size=12,
    ),
    st.sampled_from([[], ["assets"], ["assets", "sors"]]),
    st.sampled_from([(",", ":"), (", ", ": ")]),
    st.integers(0, 400),
)
def test_a_long_list_is_read_in_parts(
    elements: list[Any], others: list[str], separators: tuple[str, str], part_bytes: int
) -> None:
    """It has the same symbols as if it was read at once, however it is written."""
    lists = {name: [{"symbol": "A"}, {"symbol": "B"}] for name in others[:1]}
    lists |= {"symbols": elements} | {name: [{"symbol": "A"}] for name in others[1:]}
    body = json.dumps(lists, separators=separators, ensure_ascii=False).encode()

    def read(part_bytes: int) -> SymbolList | None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rest_answers, "PART_BYTES", part_bytes)
            try:
                return trio.run(read_exchange_info, body, USDM)
            except ExchangeRefused:
                return None

    assert read(part_bytes) == read(len(body))


async def test_reading_a_long_list_leaves_time_to_other_tasks() -> None:
    """Spot's has 3,600 symbols and 17 MB since 2026."""
    symbol = _symbol("BTCUSDT", permissionSets=[[f"TRD_GRP_{n:03d}" for n in range(300)]])
    listed = [symbol | {"symbol": f"A{n}USDT"} for n in range(3_600)]
    body = json.dumps({"symbols": listed}, separators=(",", ":")).encode()
    turns = 0
    async with trio.open_nursery() as nursery:

        async def take_turns() -> None:
            nonlocal turns
            while True:
                await trio.lowlevel.checkpoint()
                turns += 1

        nursery.start_soon(take_turns)
        assert len((await read_exchange_info(body, USDM)).symbols) == 3_600
        nursery.cancel_scope.cancel()
    assert turns >= len(body) // PART_BYTES - 1  # either task may be the first


# The time


def test_the_time_is_read_in_milliseconds() -> None:
    """All venues report it like this."""
    assert read_server_time(b'{"serverTime":1769904000000}') == OPEN_MS


@pytest.mark.parametrize(
    "answer",
    [OPEN_MS * 1000, OPEN_MS // 1000, -OPEN_MS, 0, 2**63, 10**40, 1.5, None, "soon", True, []],
)
def test_a_time_in_another_unit_is_refused(answer: object) -> None:
    """Microseconds and seconds have other numbers of digits."""
    with pytest.raises(BadFrame, match="time cannot be read"):
        read_server_time(json.dumps({"serverTime": answer}).encode())
