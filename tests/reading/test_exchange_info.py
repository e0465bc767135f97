"""The exchange's list of symbols, whole or of some: spot lets clients choose."""

from __future__ import annotations

import gzip

import msgspec
import pytest
import trio
from trio.testing import MockClock

from klineagent.api.reading.binance import read_app
from klineagent.core.errors import BadRead, NotReadable
from klineagent.core.interval import Interval
from klineagent.exchange.venues import SPOT, USDM
from klineagent.reading.candles import CandleReader
from klineagent.reading.exchange_info import ANSWERED_WITHIN_S, ExchangeInfo, take_apart
from klineagent.reading.request import read_symbols
from klineagent.testing.simulation import open_simulation

INFO = b'{"timezone":"UTC","symbols":[{"symbol":"A","x":1.50},{"symbol":"B"},{"symbol":"C"}]}'


def test_the_chosen_symbols_are_as_the_exchange_wrote_them() -> None:
    """In its order; whatever else it tells stays."""
    expected = b'{"timezone":"UTC","symbols":[{"symbol":"A","x":1.50},{"symbol":"C"}]}'
    assert take_apart(gzip.compress(INFO)).only(("C", "A", "C")) == expected


def test_a_symbol_that_is_not_listed_is_refused() -> None:
    """With the exchange's code."""
    with pytest.raises(BadRead, match=r"Invalid symbol\.") as refused:
        take_apart(gzip.compress(INFO)).only(("A", "D"))
    assert refused.value.code == -1121


def test_a_long_answer_is_taken_apart_as_a_short_one() -> None:
    """Part by part; what is told before the symbols and after them is kept in its place."""
    names = [f"SYMBOL{n}" for n in range(3_000)]
    symbols = [{"symbol": name, "filters": "x" * 500} for name in names]
    body = msgspec.json.encode({"a": 1, "symbols": symbols, "z": [2]})
    chosen = take_apart(gzip.compress(body, 1)).only((names[-1], names[1]))
    assert msgspec.json.decode(chosen) == {"a": 1, "symbols": [symbols[1], symbols[-1]], "z": [2]}


@pytest.mark.parametrize("body", [b"{}", b"[]", b'{"symbols":[{}]}', b'{"symbols":[{"symbol":"A"'])
def test_what_is_no_list_of_symbols_is_told(body: bytes) -> None:
    """It is not ours to answer for."""
    with pytest.raises(NotReadable, match="exchangeInfo cannot be read"):
        take_apart(gzip.compress(body))


async def test_a_silent_exchange_is_asked_once_for_all(autojump_clock: MockClock) -> None:
    """Nobody waits for the requests of others to fail one after another."""
    async with open_simulation(symbols=["ETHUSDT"], intervals=[Interval.M1]) as simulation:
        running, info = simulation.agent.venues.main, ExchangeInfo()
        refused: list[float] = []

        async def ask() -> None:
            with pytest.raises(NotReadable):
                await info.compressed(running)
            refused.append(trio.current_time())

        with simulation.exchange.offline():
            async with trio.open_nursery() as nursery:
                for _ in range(5):
                    nursery.start_soon(ask)
        assert refused == refused[:1] * 5
        assert gzip.decompress(await info.compressed(running)) == await info.plain(running)


async def test_an_answer_is_unpacked_once(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many ask without compression, or for a symbol."""
    async with open_simulation(symbols=["ETHUSDT"], intervals=[Interval.M1]) as simulation:
        running, info = simulation.agent.venues.main, ExchangeInfo()
        unpacked: list[bytes] = []
        compressed = await info.compressed(running)
        decompress = gzip.decompress

        def noting(body: bytes) -> bytes:
            unpacked.append(body)
            return decompress(body)

        monkeypatch.setattr(gzip, "decompress", noting)
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(info.plain, running)
                nursery.start_soon(info.of_symbols, running, ("ETHUSDT",))
        assert await info.plain(running) == decompress(compressed)
        assert unpacked == [compressed] * 2


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


async def test_while_the_exchange_is_away_the_last_list_is_answered(
    autojump_clock: MockClock,
) -> None:
    """Within seconds, and at once from then on; without one the read is refused as soon."""
    async with open_simulation(symbols=["ETHUSDT"], intervals=[Interval.M1]) as simulation:
        running, info, other = simulation.agent.venues.main, ExchangeInfo(), ExchangeInfo()
        last = await info.compressed(running)
        with simulation.exchange.offline():
            await trio.sleep(300)
            began = trio.current_time()
            assert await info.compressed(running) == last
            assert trio.current_time() - began <= ANSWERED_WITHIN_S
            asked_again = trio.current_time()
            assert await info.compressed(running) == last
            assert trio.current_time() == asked_again
            with pytest.raises(NotReadable, match="no answer from"):
                await other.compressed(running)
            assert trio.current_time() - asked_again <= ANSWERED_WITHIN_S
