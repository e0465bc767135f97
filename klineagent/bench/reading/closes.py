"""Pairs that are asked for at a minute's close, and the closing events as they come."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from http import HTTPStatus

import msgspec
import trio
from attrs import define, field, frozen
from msgspec import Struct
from trio_websocket import open_websocket_url

from klineagent.bench.figures import Spread
from klineagent.bench.probes import TwinClock
from klineagent.bench.reading.http_client import HttpClient, open_http_client
from klineagent.bench.reading.klines import klines_of
from klineagent.core.interval import MINUTE_MS, SECOND_MS
from klineagent.exchange.venues import USDM

FEW = 5
"""Pairs that are asked for where it is measured how soon one can be read."""
# The connections are used shortly before, as the agent closes idle ones after 10 s.
_PREPARED_MS = 6_000
_EVENTS_WITHIN_S = 5
_CLOSED = b'"x":true'


class Closes(Struct, frozen=True, kw_only=True):
    """What was read at the closes."""

    asked: int
    """Requests for all pairs at a close."""
    with_closed: int
    """Answers with the closed candle, its values those of its closing event."""
    pairs_ms: Spread | None
    """From the close to the end of each answer."""
    rest_ms: Spread | None
    """From the time a closing event was sent to an answer with its candle, few pairs asked."""
    stream_ms: Spread | None
    """From the time a closing event was sent to its arrival at a client."""


class ClosesLoad(Struct, frozen=True, kw_only=True, tag=True):
    """Asks for all pairs at the first close, for few at the second, and so on."""

    server: str
    """Address of the read server."""
    twin: str
    """The URL of the twin's REST API."""
    symbols: tuple[str, ...]
    closes: int

    async def run(self) -> Closes:
        """Read at so many closes."""
        clock = await TwinClock.read(self.twin, USDM)
        names = "/".join(f"{symbol.lower()}@kline_1m" for symbol in self.symbols)
        seen = _Seen(clock)
        async with (
            open_websocket_url(f"ws://{self.server}/market/ws/{names}") as socket,
            AsyncExitStack() as opened,
            trio.open_nursery() as listening,
        ):
            listening.start_soon(seen.listen, socket.get_message)
            clients = [
                await opened.enter_async_context(open_http_client(self.server))
                for _ in self.symbols
            ]
            pairs = [*zip(self.symbols, clients, strict=True)]
            answers: list[list[_Answer]] = []
            # The first read of a pair takes its rows from the store.
            await _ask_all(pairs, clock)
            for number in range(self.closes):
                asked = pairs[:FEW] if number % 2 else pairs
                close_ms = (int(clock.now_ms()) // MINUTE_MS + 1) * MINUTE_MS
                await _until(close_ms - _PREPARED_MS, clock)
                await _ask_all(asked, clock)
                await _until(close_ms, clock)
                answers.append(await _ask_all(asked, clock))
                with trio.move_on_after(_EVENTS_WITHIN_S):
                    await seen.all_of(close_ms, self.symbols)
            listening.cancel_scope.cancel(reason="read")
        return _result(answers, seen)


@frozen
class _Answer:
    symbol: str
    at_ms: float
    rows: Sequence[Sequence[object]]


@define(eq=False)
class _Seen:
    """The closing events that came."""

    _clock: TwinClock
    at_ms: dict[tuple[str, int], float] = field(factory=dict, init=False)
    """When they came, by symbol and close of the candle."""
    sent_ms: dict[tuple[str, int], int] = field(factory=dict, init=False)
    values: dict[tuple[str, int], tuple[object, ...]] = field(factory=dict, init=False)

    async def listen(self, receive: object) -> None:
        """Take what comes, for ever."""
        while True:
            message = await receive()  # type: ignore[operator]
            at_ms = self._clock.now_ms()
            if _CLOSED in message.encode():
                event = msgspec.json.decode(message)
                kline = event["k"]
                key = kline["s"], kline["T"] + 1
                self.at_ms[key], self.sent_ms[key] = at_ms, event["E"]
                self.values[key] = tuple(kline[name] for name in "ohlcv")

    async def all_of(self, close_ms: int, symbols: Sequence[str]) -> None:
        """Wait for the closing events of all `symbols`."""
        while any((symbol, close_ms) not in self.at_ms for symbol in symbols):  # noqa: ASYNC110
            await trio.sleep(0.05)


async def _until(time_ms: float, clock: TwinClock) -> None:
    await trio.sleep(max(0, time_ms - clock.now_ms()) / SECOND_MS)


async def _ask_all(pairs: Sequence[tuple[str, HttpClient]], clock: TwinClock) -> list[_Answer]:
    answers = []

    async def ask(symbol: str, client: HttpClient) -> None:
        answer = await client.get(klines_of(symbol))
        at_ms = clock.now_ms()
        rows = msgspec.json.decode(answer.body) if answer.status == HTTPStatus.OK else []
        answers.append(_Answer(symbol, at_ms, rows))

    async with trio.open_nursery() as nursery:
        for pair in pairs:
            nursery.start_soon(ask, *pair)
    return answers


def _result(answers: Sequence[Sequence[_Answer]], seen: _Seen) -> Closes:
    pairs = [each for some in answers[::2] for each in some]
    few = [each for some in answers[1::2] for each in some]
    return Closes(
        asked=len(pairs),
        with_closed=sum(_closed_ms(each, seen) is not None for each in pairs),
        pairs_ms=Spread.of([each.at_ms % MINUTE_MS for each in pairs]),
        rest_ms=Spread.of(
            [
                each.at_ms - seen.sent_ms[each.symbol, close_ms]
                for each in few
                if (close_ms := _closed_ms(each, seen)) is not None
            ]
        ),
        stream_ms=Spread.of([at_ms - seen.sent_ms[key] for key, at_ms in seen.at_ms.items()]),
    )


def _closed_ms(answer: _Answer, seen: _Seen) -> int | None:
    """Return the last close before the answer if it has that candle, as the event has it. Pure."""
    close_ms = int(answer.at_ms) // MINUTE_MS * MINUTE_MS
    closed = [tuple(row[1:6]) for row in answer.rows[-2:] if row[0] == close_ms - MINUTE_MS]
    return close_ms if closed == [seen.values.get((answer.symbol, close_ms))] else None
