"""The exchange's list of symbols, whole or of some: spot lets clients choose."""

from __future__ import annotations

import gzip

import msgspec
import pytest
import trio
from trio.testing import MockClock

from klineagent.api.reading.binance import read_app
from klineagent.core.errors import BadRead
from klineagent.core.interval import Interval
from klineagent.exchange.venues import SPOT, USDM
from klineagent.reading.candles import CandleReader
from klineagent.reading.exchange_info import only
from klineagent.reading.request import read_symbols
from klineagent.testing.simulation import open_simulation

INFO = b'{"timezone":"UTC","symbols":[{"symbol":"A","x":1.50},{"symbol":"B"},{"symbol":"C"}]}'


def test_the_chosen_symbols_are_as_the_exchange_wrote_them() -> None:
    """In its order; whatever else it tells stays."""
    expected = b'{"timezone":"UTC","symbols":[{"symbol":"A","x":1.50},{"symbol":"C"}]}'
    assert only(gzip.compress(INFO), ("C", "A", "C")) == expected


def test_a_symbol_that_is_not_listed_is_refused() -> None:
    """With the exchange's code."""
    with pytest.raises(BadRead, match=r"Invalid symbol\.") as refused:
        only(gzip.compress(INFO), ("A", "D"))
    assert refused.value.code == -1121


def test_only_spot_lets_choose() -> None:
    """One symbol, or several as JSON."""
    assert read_symbols({}, SPOT) == ()
    assert read_symbols({"symbol": "A"}, SPOT) == ("A",)
    assert read_symbols({"symbols": '["A","B"]'}, SPOT) == ("A", "B")
    assert read_symbols({"symbol": "A"}, USDM) == ()
    for query, code in (
        ({"symbol": "A", "symbols": '["A"]'}, -1128),
        ({"symbols": "A,B"}, -1100),
    ):
        with pytest.raises(BadRead) as refused:
            read_symbols(query, SPOT)
        assert refused.value.code == code


async def test_one_symbol_of_spot_over_http(autojump_clock: MockClock) -> None:
    """A client that takes the first of the answer takes the right one."""
    async with open_simulation(
        symbols=["ETHUSDT"], intervals=[Interval.M1], venue=SPOT, tick_ms=1_000
    ) as simulation:
        reader = CandleReader(venues=simulation.agent.venues, writer=simulation.agent.writer)
        client = read_app(reader).test_client()
        await trio.sleep(1)
        answer = await client.get("/api/v3/exchangeInfo?symbol=ETHUSDT")
        info = msgspec.json.decode(await answer.get_data())
        assert [each["symbol"] for each in info["symbols"]] == ["ETHUSDT"]
        refused = await client.get('/api/v3/exchangeInfo?symbols=["NONE"]')
        assert (refused.status_code, (await refused.get_json())["code"]) == (400, -1121)
