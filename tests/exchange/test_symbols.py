"""Which symbols may be subscribed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import pytest
import trio
from trio.testing import MockClock

from klineagent.core.errors import InvalidRequest
from klineagent.exchange.budget import WeightPool
from klineagent.exchange.clock.clock import ExchangeTime
from klineagent.exchange.rest import RestClient
from klineagent.exchange.rest_answers import SymbolInfo, read_exchange_info
from klineagent.exchange.symbols import REFRESH_EVERY_S, SymbolBook, TradingHalt
from klineagent.exchange.venues import COINM, SPOT, USDM, Venue
from tests.places import RECORDED


def _book(answers: list[httpx2.Response]) -> SymbolBook:
    """A book whose exchange gives these answers, the last one repeatedly."""

    def respond(request: httpx2.Request) -> httpx2.Response:
        assert request.url.path == "/fapi/v1/exchangeInfo"
        return answers.pop(0) if len(answers) > 1 else answers[0]

    http = httpx2.AsyncClient(
        transport=httpx2.MockTransport(respond), base_url="https://exchange.test"
    )
    time = ExchangeTime()
    time.confirm(1_769_904_000_000)
    budget = WeightPool(USDM.weight_pool, USDM.weight_per_minute).join(time)
    return SymbolBook(RestClient(venue=USDM, time=time, budget=budget, http=http))


def _listed(**statuses: str) -> httpx2.Response:
    symbols = [{"symbol": symbol, "status": status} for symbol, status in statuses.items()]
    return httpx2.Response(200, json={"symbols": symbols, "rateLimits": []})


async def test_only_trading_symbols_pass(autojump_clock: MockClock) -> None:
    """Unknown and delisted ones are refused with the reason."""
    book = _book([_listed(BTCUSDT="TRADING", OMGUSDT="SETTLING")])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(book._rest.budget.pool.keep_time)
        nursery.start_soon(book.keep_fresh)
        await book.check("BTCUSDT")
        with pytest.raises(InvalidRequest, match=r"OMGUSDT does not trade on usdm \(SETTLING\)"):
            await book.check("OMGUSDT")
        with pytest.raises(InvalidRequest, match="XUSDT does not exist on usdm"):
            await book.check("XUSDT")
        nursery.cancel_scope.cancel()


async def test_a_configured_symbol_waits_through_a_halt(autojump_clock: MockClock) -> None:
    """A symbol that exists and does not trade is waited for; an unknown one is refused."""
    book = _book([_listed(BTCUSDT="BREAK"), _listed(BTCUSDT="BREAK"), _listed(BTCUSDT="TRADING")])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(book._rest.budget.pool.keep_time)
        nursery.start_soon(book.keep_fresh)
        started = trio.current_time()
        await book.until_trading("BTCUSDT")
        assert trio.current_time() - started == 2 * REFRESH_EVERY_S
        with pytest.raises(InvalidRequest, match="does not exist"):
            await book.until_trading("XUSDT")
        nursery.cancel_scope.cancel()


async def test_a_new_listing_is_known_a_minute_later(autojump_clock: MockClock) -> None:
    """The list is loaded every minute."""
    book = _book([_listed(BTCUSDT="TRADING"), _listed(BTCUSDT="TRADING", NEWUSDT="TRADING")])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(book._rest.budget.pool.keep_time)
        nursery.start_soon(book.keep_fresh)
        with pytest.raises(InvalidRequest):
            await book.check("NEWUSDT")
        await trio.sleep(REFRESH_EVERY_S + 1)
        await book.check("NEWUSDT")
        nursery.cancel_scope.cancel()


async def test_failures_are_retried_and_known_symbols_stay(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A failing exchange is logged once a minute, and no symbol is forgotten."""
    broken = [httpx2.Response(503, text="maintenance"), httpx2.Response(200, text="<html>")]
    book = _book([*broken, _listed(BTCUSDT="TRADING"), *broken])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(book._rest.budget.pool.keep_time)
        nursery.start_soon(book.keep_fresh)
        await book.check("BTCUSDT")
        logged = len(caplog.records)
        await trio.sleep(3600)
        await book.check("BTCUSDT")
        nursery.cancel_scope.cancel()
    assert [record.msg for record in caplog.records[:logged]] == [
        "symbols_unavailable",  # logged when failures begin,
        "symbols_unavailable",  # and for another type of error
        "symbols_available",
        "symbols_loaded",
    ]
    assert {record.msg for record in caplog.records[logged:]} == {"symbols_unavailable"}
    assert 30 <= len(caplog.records) - logged <= 60


@asynccontextmanager
async def _refreshed(book: SymbolBook, lists: int) -> AsyncIterator[None]:
    """Run the block after that many lists."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(book._rest.budget.pool.keep_time)
        nursery.start_soon(book.keep_fresh)
        await trio.sleep((lists - 1) * REFRESH_EVERY_S + 1)
        yield
        nursery.cancel_scope.cancel()


ALL = {"BTCUSDT": "TRADING", "ETHUSDT": "TRADING", "SOLUSDT": "TRADING", "XRPUSDT": "TRADING"}
CUT = dict.fromkeys(("BTCUSDT", "ETHUSDT", "SOLUSDT"), "TRADING")


@pytest.mark.parametrize(("lists", "is_known"), [(1, True), (2, True), (3, False), (9, False)])
async def test_a_symbol_is_gone_when_three_lists_do_not_name_it(
    autojump_clock: MockClock, *, lists: int, is_known: bool
) -> None:
    """One list may be cut short; delisted symbols are named for months."""
    book = _book([_listed(**ALL), *[_listed(**CUT)] * 10])
    async with _refreshed(book, 1 + lists):
        assert ("XRPUSDT" in (book.listings or {})) is is_known
        assert book.listings is not None
        assert CUT.keys() <= book.listings.keys()


async def test_a_symbol_that_is_gone_does_not_trade(autojump_clock: MockClock) -> None:
    """A contract that ended is not listed for long; before the first list any symbol may trade."""
    book = _book([_listed(**ALL), *[_listed(**CUT)] * 10])
    assert book.trades("XRPUSDT")
    async with _refreshed(book, 1 + 2):
        assert book.trades("XRPUSDT")
    async with _refreshed(book, 2):
        assert not book.trades("XRPUSDT")


async def test_only_consecutive_lists_count(autojump_clock: MockClock) -> None:
    """A list that names the symbol again resets the count."""
    cuts = [_listed(**CUT)] * 2
    book = _book([_listed(**ALL), *cuts, _listed(**ALL), *cuts, _listed(**ALL)])
    async with _refreshed(book, 6):
        assert book.trades("XRPUSDT")
        assert ALL.keys() <= (book.listings or {}).keys()


async def test_a_list_without_half_of_the_symbols_removes_none(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """However often it comes; the symbols that it names are updated."""
    book = _book([_listed(**ALL), _listed(BTCUSDT="SETTLING")])
    async with _refreshed(book, 100):
        assert ALL.keys() <= (book.listings or {}).keys()
        assert not book.trades("BTCUSDT")
        assert book.trades("XRPUSDT")
    assert "symbols_lacking" in {record.msg for record in caplog.records}


async def test_a_trading_halt_is_known_from_list_to_list(
    autojump_clock: MockClock,
) -> None:
    """From the last list that says it traded to the first that says so again."""
    idle = _listed(BTCUSDT="SETTLING", ETHUSDT="BREAK", SOLUSDT="TRADING")
    back = _listed(BTCUSDT="TRADING", ETHUSDT="BREAK", SOLUSDT="TRADING", XRPUSDT="TRADING")
    first = _listed(BTCUSDT="TRADING", ETHUSDT="BREAK", SOLUSDT="TRADING")
    book = _book([first, first, idle, idle, back])
    start_ms, minute_ms = book._rest.time.now_ms(), int(REFRESH_EVERY_S * 1000)
    async with _refreshed(book, 4):
        assert book.halt("BTCUSDT") == TradingHalt(start_ms + minute_ms, start_ms + 3 * minute_ms)
        await trio.sleep(10 * REFRESH_EVERY_S)
        assert book.halt("BTCUSDT") == TradingHalt(start_ms + minute_ms, start_ms + 4 * minute_ms)
        assert book.halt("ETHUSDT") == TradingHalt(0, start_ms + 13 * minute_ms)
        assert book.halt("SOLUSDT") is book.halt("XRPUSDT") is None


async def test_a_halt_in_the_first_minute_has_begun_in_it(autojump_clock: MockClock) -> None:
    """Though the exchange's time was not known when the first list was requested."""
    book = _book([_listed(BTCUSDT="TRADING"), _listed(BTCUSDT="SETTLING")])
    book._rest.time = ExchangeTime()
    async with _refreshed(book, 1):
        book._rest.time.confirm(1_800_000_000_000)
        await trio.sleep(REFRESH_EVERY_S)
        halt = book.halt("BTCUSDT")
        assert halt is not None
        assert halt.until_ms - halt.since_ms <= 2_000 * REFRESH_EVERY_S


async def test_a_symbol_that_cannot_be_read_stays_as_it_was(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """As long as the list names it; the others are updated."""
    odd = [{"symbol": "BTCUSDT", "status": None}, {"symbol": "ETHUSDT", "status": "SETTLING"}]
    book = _book([_listed(**ALL), httpx2.Response(200, json={"symbols": [*odd, None, None]})])
    async with _refreshed(book, 10):
        assert book.trades("BTCUSDT")
        assert not book.trades("ETHUSDT")
    assert book._rest.counts.odd == 9 * 3
    logged = [vars(each)["count"] for each in caplog.records if each.msg == "odd_elements"]
    assert logged == [3] * 9


async def test_a_first_list_with_a_null_is_accepted(autojump_clock: MockClock) -> None:
    """One invalid element does not keep everything from being recorded."""
    symbols = [None, {"symbol": "BTCUSDT", "status": "TRADING"}, {"symbol": 7}]
    book = _book([httpx2.Response(200, json={"symbols": symbols})])
    async with _refreshed(book, 1):
        await book.check("BTCUSDT")


@pytest.mark.parametrize(
    ("status", "headers", "least_s"),
    [
        (418, {"Retry-After": "600"}, 600),
        (418, {}, 120),
        (429, {}, 60),
        (429, {"Retry-After": "x"}, 60),
    ],
)
async def test_a_ban_is_waited_out(
    autojump_clock: MockClock, status: int, headers: dict[str, str], least_s: float
) -> None:
    """Requests during a ban make it longer, so none is made."""
    book = _book([httpx2.Response(status, headers=headers), _listed(BTCUSDT="TRADING")])
    async with trio.open_nursery() as nursery:
        started = trio.current_time()
        nursery.start_soon(book._rest.budget.pool.keep_time)
        nursery.start_soon(book.keep_fresh)
        await book.check("BTCUSDT")
        assert trio.current_time() - started >= least_s
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("name", "venue", "symbol"),
    [("usdm", USDM, "BTCUSDT"), ("coinm", COINM, "BTCUSD_PERP")],
)
async def test_recorded_lists_are_read(name: str, venue: Venue, symbol: str) -> None:
    """Answers of the real exchange; COIN-M names the status differently."""
    path = RECORDED / f"exchangeInfo-{name}-2021.json"
    if not path.exists():
        pytest.skip("the recorded answers are not beside the project")
    symbols = (await read_exchange_info(path.read_bytes(), venue)).symbols
    assert symbols[symbol].is_trading
    listed = json.loads(path.read_bytes())["symbols"]
    assert len(symbols) == len(listed)


@pytest.mark.parametrize(
    ("venue", "status", "is_trading", "is_listed"),
    [
        (USDM, "TRADING", True, True),
        (USDM, "TRADING_HALT", False, True),
        (USDM, "PENDING_TRADING", False, False),
        (USDM, "SETTLING", False, False),
        (COINM, "DELIVERED", False, False),
        (COINM, "PRE_DELIVERING", False, True),
        (SPOT, "HALT", False, True),
        (SPOT, "BREAK", False, False),
    ],
)
async def test_what_is_known_of_a_symbol(
    venue: Venue, status: str, *, is_trading: bool, is_listed: bool
) -> None:
    """Each venue in its own terms; a contract in its last hour is still what it was."""
    symbol: dict[str, object] = {
        "symbol": "BTCUSD_261225",
        venue.status_field: status,
        "baseAsset": "BTC",
        "quoteAsset": "USD",
        "onboardDate": 1_500_000_000_000,
        "pricePrecision": 2,
        "quantityPrecision": 3,
    }
    if venue is not SPOT:
        symbol["contractType"] = "CURRENT_QUARTER DELIVERING"
    listed = await read_exchange_info(json.dumps({"symbols": [symbol]}).encode(), venue)
    assert listed.symbols["BTCUSD_261225"] == SymbolInfo(
        symbol="BTCUSD_261225",
        status=status,
        is_trading=is_trading,
        is_listed=is_listed,
        base="BTC",
        quote="USD",
        contract="" if venue is SPOT else "CURRENT_QUARTER",
        onboard_ms=1_500_000_000_000,
        price_places=8 if venue is SPOT else 2,
        quantity_places=8 if venue is SPOT else 3,
    )
