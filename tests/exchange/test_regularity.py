"""Consistent candles pass; one wrong field is a flaw."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klineagent.core.interval import DAY_MS, MINUTE_MS, Interval
from klineagent.exchange.regularity import Flaw, flaw_of
from klineagent.exchange.wire import StreamedCandle, decode_frame
from tests.exchange.recorded import recorded_frames
from tests.klines import OPEN_MS

Frame = dict[str, Any]
Frames = st.SearchStrategy[Frame]
Spoil = Callable[[Frame], None]
"""Damage a part of a frame."""

# Prices and volumes as the exchange writes them: text with all decimal places.
_PLACES = 8
_units = st.integers(0, 10**16)
_symbols = st.sampled_from(["BTCUSDT", "1000PEPEUSDT", "BTCUSD_PERP", "BTCUSDT_261225"]) | st.just(
    "币安人生USDT"
)
_TEN_YEARS_FROM_2020_MS = (1_577_836_800_000, 1_577_836_800_000 + 3_650 * DAY_MS)
LATEST_MS = 5 * MINUTE_MS


def _decimal(units: int) -> str:
    digits = f"{units:0{_PLACES + 1}}"
    return f"{digits[:-_PLACES]}.{digits[-_PLACES:]}"


@st.composite
def _frames(draw: st.DrawFn, *, closed: bool | None = None, empty: bool | None = None) -> Frame:
    """The values that a candle of the exchange may have."""
    symbol, interval = draw(_symbols), draw(st.sampled_from(Interval))
    opened_ms = interval.open_at(draw(st.integers(*_TEN_YEARS_FROM_2020_MS)))
    closes_ms = interval.close_of(opened_ms)
    is_closed = draw(st.booleans()) if closed is None else closed
    first_ms = closes_ms + 1 if is_closed else opened_ms
    candle: Frame = {"t": opened_ms, "T": closes_ms, "s": symbol, "i": interval.value}
    if draw(st.booleans()) if empty is None else empty:
        price = _decimal(draw(_units))
        candle |= {"f": -1, "L": -1} | dict.fromkeys("ochl", price)
        candle |= {"v": "0.00000000", "n": 0, "x": is_closed}
        candle |= dict.fromkeys("qVQ", "0.00000000")
    else:
        low, *inner, high = sorted(
            draw(st.lists(_units.map(lambda n: n + 1), min_size=4, max_size=4))
        )
        opened, closed_at = draw(st.permutations(inner))
        first, trades = draw(st.integers(0, 2**62)), draw(st.integers(1, 2**32 - 1))
        candle |= {"f": first, "L": first + draw(st.integers(0, 2**32))}
        candle |= {"o": _decimal(opened), "c": _decimal(closed_at)}
        candle |= {"h": _decimal(high), "l": _decimal(low)}
        taker, volume = sorted((draw(_units), draw(_units) + 1))
        taker_quote, quote = sorted((draw(_units), draw(_units)))
        candle |= {"v": _decimal(volume), "n": trades, "x": is_closed, "q": _decimal(quote)}
        candle |= {"V": _decimal(taker), "Q": _decimal(taker_quote)}
    latest_ms = closes_ms + (LATEST_MS if is_closed else 5 * DAY_MS)
    event_ms = draw(st.integers(first_ms, latest_ms))
    event = {"e": "kline", "E": event_ms, "s": symbol, "k": candle | {"B": "0"}}
    return {"stream": f"{symbol.lower()}@kline_{interval}", "data": event}


def _quiet(**fields: object) -> Frame:
    """A closed minute of BTCUSDT with some `fields` changed."""
    candle = {"t": OPEN_MS, "T": OPEN_MS + MINUTE_MS - 1, "s": "BTCUSDT", "i": "1m"}
    candle |= dict.fromkeys("ochlvqVQ", "1.5") | {"f": 1, "L": 2, "n": 2, "x": True, "B": "0"}
    event = {"e": "kline", "E": OPEN_MS + MINUTE_MS + 5, "s": "BTCUSDT", "k": candle | fields}
    return {"stream": "btcusdt@kline_1m", "data": event}


def _candle(frame: Frame | str) -> StreamedCandle:
    text = frame if isinstance(frame, str) else json.dumps(frame, ensure_ascii=False)
    candle = decode_frame(text)
    assert isinstance(candle, StreamedCandle)
    return candle


def test_every_recorded_frame_is_regular() -> None:
    """Of five venues, including candles without trades, open and closed."""
    frames = [_candle(frame) for frame in recorded_frames("kline-frames.jsonl")]
    assert [frame for frame in frames if flaw_of(frame)] == []
    assert len(frames) == 115


@given(_frames())
def test_what_the_exchange_may_send_is_regular(frame: Frame) -> None:
    """Any series at any time, with trades or without, open or closed, in time or late."""
    assert flaw_of(_candle(frame)) is None


def _event(**fields: object) -> Spoil:
    return lambda frame: frame["data"].update(fields)


def _stream(rename: Callable[[str], str]) -> Spoil:
    return lambda frame: frame.update(stream=rename(frame["stream"]))


def _k(**fields: object) -> Spoil:
    return lambda frame: frame["data"]["k"].update(fields)


def _shifted(field: str, by: int) -> Spoil:
    def spoil(frame: Frame) -> None:
        frame["data"]["k"][field] += by

    return spoil


def _both_shifted(frame: Frame) -> None:
    _shifted("t", 1)(frame)
    _shifted("T", 1)(frame)


def _at(after_ms: int, field: str) -> Spoil:
    """Set the event time to `after_ms` after that in `field` of the candle."""
    return lambda frame: frame["data"].update(E=frame["data"]["k"][field] + after_ms)


def _of_lower_case(frame: Frame) -> None:
    symbol = frame["data"]["s"].lower()
    _event(s=symbol)(frame)
    _k(s=symbol)(frame)


def _of_another_interval(frame: Frame) -> None:
    """A consistent frame under another name."""
    other = Interval.M5 if frame["data"]["k"]["i"] != "5m" else Interval.H1
    opened_ms = other.open_at(frame["data"]["E"] - DAY_MS)
    _k(i=other.value, t=opened_ms, T=other.close_of(opened_ms))(frame)


_ANY, _CLOSED = _frames(), _frames(closed=True)
_TRADED, _EMPTY = _frames(empty=False), _frames(empty=True)
_HUGE = "1000000000000"  # above any price, also as a float
_ENDLESS = ("nan", "inf", "-inf")
_NO_BOOLS: tuple[object, ...] = ("true", "false", "1", 1, 0, 1.0, None, "", [])

_SPOILT: dict[str, tuple[Flaw, Frames, Spoil]] = {
    "a candle of another symbol": (Flaw.SERIES, _ANY, _k(s="ETHUSDT")),
    "an event of another symbol": (Flaw.SERIES, _ANY, _event(s="ETHUSDT")),
    "another symbol's stream": (Flaw.SERIES, _ANY, _stream(lambda name: f"x{name}")),
    "a stream in upper case": (Flaw.SERIES, _ANY, _stream(str.upper)),
    "a symbol in lower case": (Flaw.SERIES, _ANY, _of_lower_case),
    "another type of stream": (Flaw.SERIES, _ANY, _stream(lambda name: name.replace("k", "t"))),
    "another interval": (Flaw.SERIES, _ANY, _of_another_interval),
    "an unknown interval": (Flaw.SERIES, _ANY, _k(i="7m")),
    "an open time off the grid": (Flaw.TIMES, _ANY, _shifted("t", 1)),
    "a candle off the grid": (Flaw.TIMES, _ANY, _both_shifted),
    "a candle cut short": (Flaw.TIMES, _ANY, _shifted("T", -1)),
    "a candle that lasts too long": (Flaw.TIMES, _ANY, _shifted("T", 1)),
    "sent before its open": (Flaw.TIMES, _ANY, _at(-1, "t")),
    "closed before its close": (Flaw.TIMES, _CLOSED, _at(0, "T")),
    "closed long after its close": (Flaw.TIMES, _CLOSED, _at(LATEST_MS + 1, "T")),
    "a high below all": (Flaw.PRICES, _TRADED, _k(h="0")),
    "a low above all": (Flaw.PRICES, _TRADED, _k(l=_HUGE)),
    "an open above the high": (Flaw.PRICES, _ANY, _k(o=_HUGE)),
    "a close above the high": (Flaw.PRICES, _ANY, _k(c=_HUGE)),
    "an open below the low": (Flaw.PRICES, _TRADED, _k(o="0")),
    "a close below the low": (Flaw.PRICES, _TRADED, _k(c="0")),
    "trades for nothing": (Flaw.PRICES, _TRADED, _k(l="0")),
    "a negative price": (Flaw.PRICES, _ANY, _k(l="-1")),
    "more bought than traded": (Flaw.VOLUMES, _ANY, _k(V=_HUGE)),
    "more paid than traded": (Flaw.VOLUMES, _ANY, _k(Q=_HUGE)),
    "bought where nothing was traded": (Flaw.VOLUMES, _EMPTY, _k(V="0.00000001")),
    "no trade for a volume": (Flaw.TRADES, _TRADED, _k(n=0)),
    "a trade for no volume": (Flaw.TRADES, _EMPTY, _k(n=1, **dict.fromkeys("ochl", "1"))),
    "trades of no volume": (Flaw.TRADES, _TRADED, _k(v="0", V="0")),
    "volume of no trades": (Flaw.TRADES, _EMPTY, _k(v="1")),
    "no first trade": (Flaw.TRADES, _TRADED, _k(f=-1)),
    "no last trade": (Flaw.TRADES, _TRADED, _k(L=-1)),
    "the last trade first": (Flaw.TRADES, _ANY, _k(f=2, L=1)),
}
_SPOILT |= {
    f"{field} is {value}": (
        Flaw.PRICES if field in "ochl" else Flaw.VOLUMES,
        _ANY,
        _k(**{field: value}),
    )
    for field in "ochlvqVQ"
    for value in _ENDLESS
}
_SPOILT |= {f"{field} is negative": (Flaw.VOLUMES, _ANY, _k(**{field: "-1"})) for field in "vqVQ"}
_SPOILT |= {f"closed is {value!r}": (Flaw.UNREADABLE, _ANY, _k(x=value)) for value in _NO_BOOLS}


@pytest.mark.parametrize(("flaw", "frames", "spoil"), _SPOILT.values(), ids=_SPOILT)
@given(data=st.data())
@settings(max_examples=5)
def test_one_wrong_field_is_a_flaw(
    flaw: Flaw, frames: Frames, spoil: Spoil, data: st.DataObject
) -> None:
    """The flaw names the part of the candle."""
    frame = data.draw(frames)
    spoil(frame)
    assert flaw_of(_candle(frame)) is flaw


def test_the_takers_volume_may_be_rounded_up() -> None:
    """It is summed apart from the total."""
    assert flaw_of(_candle(_quiet(v="0.3", V="0.30000000000000004"))) is None
    assert flaw_of(_candle(_quiet(v="0.3", V="0.301"))) is Flaw.VOLUMES


@pytest.mark.parametrize("after_ms", [1, 5 * MINUTE_MS, DAY_MS])
def test_a_forming_state_may_come_late(after_ms: int) -> None:
    """It contradicts nothing and outranks no closed state."""
    frame = _quiet(x=False)
    _at(after_ms, "T")(frame)
    assert flaw_of(_candle(frame)) is None


def test_a_candle_without_trades_may_have_prices_of_zero() -> None:
    """A market that has not begun to trade has no last price."""
    nothing = dict.fromkeys("ochlvVqQ", "0") | {"n": 0, "f": -1, "L": -1}
    assert flaw_of(_candle(_quiet(**nothing))) is None


def test_trade_ids_need_not_match_the_number_of_trades() -> None:
    """On futures they have gaps: 1029 ids were captured for 1027 trades."""
    assert flaw_of(_candle(_quiet(n=1027, f=8153633367, L=8153634395))) is None
