from __future__ import annotations

import pytest
import trio
from click.testing import CliRunner
from trio.testing import MockClock

from klineagent.cli.group import commands
from klineagent.core.errors import ConfigError
from klineagent.twin.exchange import Exchange, open_exchange
from klineagent.twin.faults.options import FaultOption, open_faults, parse_fault
from klineagent.twin.market.eventful import EventfulMarket
from klineagent.twin.market.random import RandomMarket
from klineagent.twin.venues import SPOT, USDM
from tests.twin.samples import Dial, events_until


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("losing-closings=0.01", "losing-closings", 0.01),
        ("losing-closings", "losing-closings", 1),
        ("quiet-empties", "quiet-empties", 0),
        ("lying-weights", "lying-weights", 0),
        ("lying-weights=0.5", "lying-weights", 0.5),
        ("lagging-rest=5", "lagging-rest", 5),
        ("reset=300", "reset", 300),
        ("offline=1e3", "offline", 1_000),
    ],
)
def test_faults_are_parsed(text: str, kind: str, value: float) -> None:
    """A kind and its number, or the default."""
    assert parse_fault(text) == FaultOption(kind, value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("nonsense=1", "no kind 'nonsense'; there are losing-closings, .* halting, reset, close, "),
        ("losing_closings=0.1", "did you mean losing-closings\\? There are losing-closings, "),
        ("", "no kind ''"),
        ("losing-closings=2", "a share from 0 to 1, not '2'"),
        ("losing-closings=nan", "a share from 0 to 1"),
        ("losing-closings=half", "a share from 0 to 1, not 'half'"),
        ("reset", "needs a number of seconds, as in reset=300"),
        ("reset=0", "a positive number of seconds"),
        ("offline=inf", "a positive number of seconds"),
        ("lagging-rest", "needs a number of seconds"),
        ("lying-weights=-1", "a number from 0 on"),
        ("quiet-empties=1", "takes no number"),
        ("options:offline=60", "no venue 'options' here; there are usdm"),
        ("usdm:nonsense", "no kind 'nonsense'"),
    ],
)
def test_an_invalid_fault_is_one_line(text: str, complaint: str) -> None:
    """The command ends with it before it starts anything."""
    with pytest.raises(ConfigError, match=complaint):
        parse_fault(text)
    result = CliRunner().invoke(commands, ["simulate", "--fault", text])
    assert isinstance(result.exception, ConfigError)
    assert "\n" not in str(result.exception)


async def test_a_fault_may_strike_one_venue(
    twin: Exchange, market: RandomMarket, autojump_clock: MockClock
) -> None:
    """The others are as they were."""
    options = [parse_fault("spot:hiding-weights"), parse_fault("failing-rest")]
    async with (
        open_exchange(market, SPOT) as spot,
        open_faults(twin, options),
        open_faults(spot, options),
    ):
        for exchange in (twin, spot):
            await exchange.answer("GET", f"{exchange.venue.rest_prefix}/ping", {})
        assert twin.faults.injected == {"failing_rest": 1}
        assert spot.faults.injected == {"failing_rest": 1, "hiding_weights": 1}


async def test_lasting_faults_last(twin: Exchange, dial: Dial, autojump_clock: MockClock) -> None:
    """From the begin of the block to its end."""
    socket = await dial("/market/stream?streams=btcusdt@kline_1m")
    async with open_faults(twin, [parse_fault("losing-closings")]):
        assert not any(e["k"]["x"] for e in await events_until(socket, 3_599))
    assert twin.faults.injected == {"losing_closings": 60}
    assert any(e["k"]["x"] for e in await events_until(socket, 2))


async def test_recurring_faults_strike_at_random_times(
    market: RandomMarket, autojump_clock: MockClock
) -> None:
    """Each about as often as requested, and in the same way with the same seed."""
    kinds = ("offline", "stalling", "reset", "close", "shutdown", "halting", "hanging-rest")
    options = [parse_fault(f"{kind}=3600") for kind in kinds]
    histories = []
    for _ in range(2):
        async with (
            open_exchange(EventfulMarket(market), USDM, tick_ms=60_000, seed=5) as exchange,
            open_faults(exchange, options),
        ):
            await trio.sleep(2 * 86_400)
            histories.append(dict(exchange.faults.injected))
    # There are no sockets to stall, reset or close, and no requests.
    assert set(histories[0]) == {"offline", "announce_shutdown", "halting"}
    assert all(25 < number < 70 for number in histories[0].values())
    assert histories[0] == histories[1]


async def test_every_kind_can_begin_and_end(
    market: RandomMarket, autojump_clock: MockClock
) -> None:
    """All of them at once."""
    shares = ["losing-closings", "delaying-closings", "doubling-closings", "reordering"]
    shares += ["early-opens", "garbling", "truncating", "fragmenting", "silent-acks"]
    others = ["failing-rest", "quiet-empties", "hiding-weights", "lying-weights", "lagging-rest=1"]
    seconds = ["offline", "stalling", "hanging-rest", "refusing-rest", "banning-rest", "halting"]
    seconds += ["reset", "close", "shutdown"]
    options = [parse_fault(text) for text in shares + others + [f"{kind}=10" for kind in seconds]]
    async with open_exchange(EventfulMarket(market), USDM, tick_ms=60_000) as exchange:
        async with open_faults(exchange, options):
            await trio.sleep(600)
        assert exchange.connections.is_online
        assert not exchange.faults.disturb_events


@pytest.mark.parametrize("kind", ["losing-closings", "fragmenting=0.1"])
async def test_a_fixed_rate_excludes_faults_of_events(market: RandomMarket, kind: str) -> None:
    """They are rejected."""
    async with open_exchange(market, USDM, rate=10) as exchange:
        with pytest.RaisesGroup(
            pytest.RaisesExc(ConfigError, match="faults of events cannot be combined")
        ):
            async with open_faults(exchange, [parse_fault(kind)]):
                pass
        async with open_faults(exchange, [parse_fault("quiet-empties"), parse_fault("reset=1")]):
            pass


async def test_only_an_eventful_market_is_halted(twin: Exchange, autojump_clock: MockClock) -> None:
    """The command always uses one; other callers get an error."""
    with pytest.RaisesGroup(TypeError):
        async with open_faults(twin, [parse_fault("halting=1")]):
            await trio.sleep(100)
