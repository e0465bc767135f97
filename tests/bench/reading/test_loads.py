"""What programs read, tried on the twin: it speaks as an agent does."""

from __future__ import annotations

import httpx2
import pytest

from klineagent.bench.reading.closes import ClosesLoad
from klineagent.bench.reading.fan_out import FanOutLoad
from klineagent.bench.reading.klines import KlinesLoad
from klineagent.bench.twin import TwinProcess, open_twin

SYMBOLS = 8
SOON = ("--start", "2027-02-02T00:00:57")


def server_of(twin: TwinProcess) -> str:
    """Host and port of the twin."""
    return httpx2.URL(twin.rest_urls["usdm"]).netloc.decode()


async def test_pairs_are_asked_for_in_turn() -> None:
    """All are answered, over connections that are kept."""
    async with open_twin(symbols={"usdm": SYMBOLS}) as twin:
        load = KlinesLoad(
            server=server_of(twin),
            symbols=twin.symbols["usdm"],
            per_s=50,
            warm_up_s=0,
            seconds=0.5,
        )
        answers = await load.run()
    assert answers.errors == {}
    assert answers.answered == answers.asked == 25


async def test_each_answer_at_a_close_is_held_against_the_closing_event() -> None:
    """The twin has the candle at once; its events come within a third of a second."""
    async with open_twin(*SOON, symbols={"usdm": SYMBOLS}) as twin:
        load = ClosesLoad(
            server=server_of(twin),
            twin=twin.rest_urls["usdm"],
            symbols=twin.symbols["usdm"],
            closes=1,
        )
        closes = await load.run()
    assert closes.asked == closes.with_closed == SYMBOLS
    assert closes.rest_ms is None  # few are asked for at the second close
    assert closes.pairs_ms is not None
    assert closes.stream_ms is not None
    assert closes.stream_ms.count == SYMBOLS


async def test_each_message_to_each_client_counts() -> None:
    """At a hundred events a second ten clients get a thousand."""
    async with open_twin("--rate", "1000", symbols={"usdm": SYMBOLS}) as twin:
        load = FanOutLoad(
            server=server_of(twin),
            clients=10,
            streams=tuple(f"{each.lower()}@kline_1m" for each in twin.symbols["usdm"]),
            warm_up_s=0.2,
            seconds=1,
        )
        delivered = await load.run()
    assert delivered.cut == 0
    assert delivered.messages == pytest.approx(1000, rel=0.3)
