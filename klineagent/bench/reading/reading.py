"""The scenario `reading`: programs read while the agent records the whole market."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from statistics import median
from typing import Any, NoReturn

import msgspec
import trio
from attrs import define, field, frozen

from klineagent.bench.child import Child, open_child
from klineagent.bench.figures import MILLION, AgentFigures, Answers, Spread
from klineagent.bench.measurement import READY_WITHIN_S, Scene, figures_of, open_scene
from klineagent.bench.outcome import Bar, Outcome, percent_of_sent
from klineagent.bench.probes import memory_of
from klineagent.bench.reading.closes import Closes, ClosesLoad
from klineagent.bench.reading.documents import Documents, DocumentsLoad, LeavingLoad
from klineagent.bench.reading.fan_out import Delivered, FanOutLoad
from klineagent.bench.reading.history import History
from klineagent.bench.reading.http_client import open_http_client
from klineagent.bench.reading.klines import ROWS, KlinesLoad, klines_of
from klineagent.bench.reading.loads import Load
from klineagent.bench.twin import TwinProcess
from klineagent.bench.workload import FRESH, Workload
from klineagent.core.interval import MINUTE_MS, SECOND_MS, Interval
from klineagent.exchange.venues import USDM
from klineagent.exchange.wire import stream_name

READING = Workload(symbols=600, rate="36000", seconds=60, tls=True, store=FRESH, requests=200)
MOST_PAIRS = 80
CLIENTS = 100
# A window ends so long after the last close, or a little later than a client has left.
_AFTER_S = 5.0
_GONE_WITHIN_S = 3.0
# Waiting for twenty connections, a slow document.
_PATIENCE_S = 60
_FILLED_WITHIN_S = 600
_RSS_EVERY_S = 0.05
_START = "2027-02-02T00:00:40"
_FAN_OUT = (Interval.M1, Interval.M5, Interval.H1)
_MEGA = 1_000_000
_ANSWERED = 0.99
_UNCHANGED_MS = 100


@frozen(kw_only=True)
class Readers:
    """What is read."""

    candles: int = 1_000_000
    """Candles of a document."""
    closes: int = 2
    """Closes of a minute at which pairs are asked for."""


@frozen(kw_only=True)
class Read:
    """What the readers report."""

    klines: Answers
    closes: Closes | None
    delivered: Delivered
    documents: Documents
    growth: int
    """By how many bytes the agent's memory grew for documents."""
    left_at: float
    """When the last client left, in seconds since the epoch."""


async def read(load: Workload, readers: Readers, announce: Callable[[str], None]) -> Outcome:
    """Record while programs read.

    Windows follow each other: left alone; klines requests; pairs asked for at the close; stream
    clients; documents; a client that leaves. `announce` is called with the name of what comes next.
    """
    announce("an earlier run")
    past = RecordedPast(readers.candles)
    async with open_scene(load, "--start", _START, past=past) as scene:
        pairs = scene.symbols[:MOST_PAIRS]
        announce("left alone")
        runs = {"left alone": await figures_of(scene)}
        announce("pairs are read once")
        await _read_once(scene.read, pairs)

        async def beside(name: str, reading: Load, seconds: float | None = None) -> Any:
            announce(name)
            async with _reading(name, reading, scene) as reader:
                runs[name] = await figures_of(scene, seconds)
                return (await reader.event_within(_PATIENCE_S, "read"))["result"]

        klines = await beside(
            "klines",
            KlinesLoad(
                server=scene.read,
                symbols=pairs,
                per_s=load.requests,
                warm_up_s=load.warm_up_s,
                seconds=load.seconds,
            ),
        )
        closes = None
        if readers.closes:
            closes = await beside(
                "closes",
                ClosesLoad(
                    server=scene.read,
                    twin=scene.twin.rest_urls[USDM.name],
                    symbols=pairs,
                    closes=readers.closes,
                ),
                readers.closes * MINUTE_MS / SECOND_MS + _AFTER_S,
            )
        delivered = await beside(
            "streams",
            FanOutLoad(
                server=scene.read,
                clients=CLIENTS,
                streams=tuple(stream_name(pair, each) for pair in pairs for each in _FAN_OUT),
                warm_up_s=load.warm_up_s,
                seconds=load.seconds,
            ),
        )
        async with _memory_watched(scene.agent) as memory:
            documents = await beside(
                "documents",
                DocumentsLoad(
                    server=scene.read,
                    symbol=pairs[0],
                    candles=readers.candles,
                    seconds=load.warm_up_s + load.seconds,
                ),
            )
        leaving = LeavingLoad(server=scene.read, symbol=pairs[0], candles=readers.candles)
        left_at = await beside("a client leaves", leaving, _GONE_WITHIN_S)
    seen = Read(
        klines=msgspec.convert(klines, Answers),
        closes=msgspec.convert(closes, Closes | None),
        delivered=msgspec.convert(delivered, Delivered),
        documents=msgspec.convert(documents, Documents),
        growth=memory.growth,
        left_at=left_at,
    )
    return Outcome(runs=runs, bars=bars_of(load, runs, seen), answers=seen.klines)


async def _read_once(server: str, pairs: Sequence[str]) -> None:
    """Read pairs from the store: from then on their rows are in the tail."""

    async def get(pair: str) -> None:
        async with open_http_client(server) as client:
            await client.get(klines_of(pair))

    async with trio.open_nursery() as nursery:
        for pair in pairs:
            nursery.start_soon(get, pair)


@asynccontextmanager
async def _reading(name: str, load: Load, scene: Scene) -> AsyncIterator[Child]:
    """Let a process read from now on."""
    command = [
        *(sys.executable, "-m", "klineagent.bench.reading.loads"),
        msgspec.json.encode(load).decode(),
    ]
    async with open_child(name, command, reports_on="stdout", environ=scene.environ) as reader:
        await reader.event_within(READY_WITHIN_S, "ready")
        await reader.go()
        yield reader


@frozen
class RecordedPast:
    """What an earlier run has recorded: minutes of the first pair, and enough of the others."""

    candles: int

    async def fill(self, store: str, twin: TwinProcess, environ: Mapping[str, str]) -> None:
        """See `Past`."""
        first, *others = twin.symbols[USDM.name][:MOST_PAIRS]
        history = History(
            store=store,
            minutes={first: self.candles + ROWS, **dict.fromkeys(others, 2 * ROWS)},
            twin=twin.rest_urls[USDM.name],
        )
        command = [
            *(sys.executable, "-m", "klineagent.bench.reading.history"),
            msgspec.json.encode(history).decode(),
        ]
        async with open_child(
            "the earlier run", command, reports_on="stdout", environ=environ
        ) as child:
            await child.event_within(_FILLED_WITHIN_S, "filled")


@define(eq=False)
class _Memory:
    """Resident memory of a process, before and at most."""

    before: int
    most: int = field(default=0, init=False)

    @property
    def growth(self) -> int:
        return max(0, self.most - self.before)

    async def sample(self, process: int) -> NoReturn:
        while True:
            self.most = max(self.most, memory_of(process).now)
            await trio.sleep(_RSS_EVERY_S)


@asynccontextmanager
async def _memory_watched(agent: Child) -> AsyncIterator[_Memory]:
    process = agent.process.pid
    memory = _Memory(memory_of(process).now)
    async with trio.open_nursery() as watching:
        watching.start_soon(memory.sample, process)
        yield memory
        watching.cancel_scope.cancel(reason="it is read")


def bars_of(load: Workload, runs: dict[str, AgentFigures], seen: Read) -> list[Bar]:
    """The bars of what is read, and of recording meanwhile. Pure."""
    return [
        *_klines_bars(load, runs, seen.klines),
        *([] if seen.closes is None else _closes_bars(seen.closes)),
        *_stream_bars(runs, seen.delivered),
        *_document_bars(runs, seen),
        *_recording_bars(load, runs),
    ]


def _klines_bars(load: Workload, runs: dict[str, AgentFigures], klines: Answers) -> list[Bar]:
    took, more = klines.took_ms, _more_of_a_core(runs, "klines")
    return [
        Bar(what="klines requests that failed", seen=sum(klines.errors.values()), most=0),
        Bar(what="klines requests a second", seen=klines.per_s, least=_ANSWERED * load.requests),
        Bar(what="klines p50, ms", seen=took.p50 if took else None),
        Bar(what="klines p99, ms", seen=took.p99 if took else None, most=20),
        Bar(what="klines, % of a core", seen=100 * more, most=10),
        Bar(what="klines, CPU ms a request", seen=SECOND_MS * more / klines.per_s),
    ]


def _closes_bars(closes: Closes) -> list[Bar]:
    pairs, rest, stream = closes.pairs_ms, closes.rest_ms, closes.stream_ms
    return [
        Bar(
            what="answers at a close with its candle",
            seen=closes.with_closed,
            least=closes.asked,
        ),
        Bar(what="close to the last of them, ms", seen=pairs.max if pairs else None, most=1000),
        Bar(what="close to half of them, ms", seen=pairs.p50 if pairs else None),
        Bar(what="closing event to REST, longest, ms", seen=rest.max if rest else None, most=50),
        Bar(what="closing event to stream p99, ms", seen=stream.p99 if stream else None, most=50),
    ]


def _stream_bars(runs: dict[str, AgentFigures], delivered: Delivered) -> list[Bar]:
    per_s, more = delivered.messages / delivered.seconds, _more_of_a_core(runs, "streams")
    return [
        Bar(what="stream clients cut", seen=delivered.cut, most=0),
        Bar(what="stream messages a second", seen=per_s),
        Bar(
            what="stream, CPU us a message",
            seen=MILLION * more / per_s if per_s else None,
            most=5,
        ),
    ]


def _document_bars(runs: dict[str, AgentFigures], seen: Read) -> list[Bar]:
    lag = runs["documents"].lag_ms
    last = runs["a client leaves"].last_read_at
    took = {form: median(each) for form, each in seen.documents.took_s.items()}
    return [
        Bar(what="Arrow document, s", seen=took["arrow"], most=3),
        Bar(what="Parquet document, s", seen=took["parquet"], most=5),
        Bar(what="documents, RSS grows by, MB", seen=seen.growth / _MEGA, most=200),
        Bar(what="documents, event-loop lag p99, ms", seen=lag.p99 if lag else None, most=20),
        Bar(
            what="client left to the end of its query, s",
            seen=None if last is None else max(0, last - seen.left_at),
            most=1,
        ),
    ]


def _recording_bars(load: Workload, runs: dict[str, AgentFigures]) -> list[Bar]:
    """Make the bars of `bench operate`, for the worst of all windows with readers."""
    quiet, *read = runs.values()
    return [
        Bar(
            what="% of what is sent, at least",
            seen=min(percent_of_sent(load, each) for each in read),
            least=98,
        ),
        *(
            Bar(
                what=f"{name}: age of the newest row p99, ms more",
                seen=_more(quiet.insert_age_ms, runs[name].insert_age_ms),
                most=_UNCHANGED_MS,
            )
            for name in ("klines", "streams", "documents")
        ),
        Bar(
            what="candles closed and not found",
            seen=sum(each.closed - each.found for each in read),
            most=0,
        ),
        Bar(what="candles missing in the end", seen=read[-1].missing, most=0),
    ]


def _more_of_a_core(runs: dict[str, AgentFigures], name: str) -> float:
    """What a window takes more of a core than the agent left alone."""
    quiet, beside = runs["left alone"], runs[name]
    return beside.cpu_s / beside.seconds - quiet.cpu_s / quiet.seconds


def _more(before: Spread | None, beside: Spread | None) -> float | None:
    return beside.p99 - before.p99 if before and beside else None
