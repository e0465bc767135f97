"""The scenarios: each with its workload, its course and its bars."""

from __future__ import annotations

from collections.abc import Sequence

import httpx2
import trio
from attrs import evolve

from klineagent.bench.child import BenchFailed
from klineagent.bench.figures import Spread
from klineagent.bench.measurement import figures_of, measure, open_scene
from klineagent.bench.outcome import Bar, Outcome, percent_of_sent
from klineagent.bench.pings import Pings
from klineagent.bench.probes import memory_of
from klineagent.bench.workload import FRESH, MAX, Workload
from klineagent.core.errors import reason_of

SATURATED = Workload(symbols=600, rate=MAX, seconds=10, tls=None)
PACED = Workload(symbols=600, rate="36000", seconds=20, tls=True, store=FRESH)
MINUTE_CLOSE = Workload(symbols=600, rate="9000", seconds=20, tls=True, store=FRESH, warm_up_s=0)
SUBSCRIBE = Workload(symbols=600, rate="900", seconds=5, tls=True)
LINEAR = Workload(symbols=600, rate=MAX, seconds=10)

_FEWER = 10
"""`linear` compares with this many times fewer symbols."""
# An ordinary minute closes a little after the agent is ready.
_MINUTE_ENDS_SOON = "2027-02-02T00:00:40"
# At the next midnight every interval closes: a Monday, a month and a 3d candle begin there.
_ALL_CLOSE_SOON = "2027-01-31T23:59:45"
_ADDED_WITHIN_S = 60
_ADDED_IN_S = 30
_SYMBOLS_A_CALL = 300
_MEGA = 1_000_000
_KILO = 1_000


async def saturated(load: Workload) -> Outcome:
    """Send as many messages as the agent takes.

    Plain, then over TLS.
    """
    least = {False: 300_000, True: 200_000}
    runs, bars = {}, []
    for tls in least if load.tls is None else [load.tls]:
        name = "TLS" if tls else "plain"
        figures = runs[name] = await measure(evolve(load, tls=tls))
        bars.append(
            Bar(what=f"messages a second, {name}", seen=figures.messages_per_s, least=least[tls])
        )
    return Outcome(runs=runs, bars=bars)


async def paced(load: Workload) -> Outcome:
    """Record the whole market at its usual pace."""
    figures = await measure(load, "--start", _MINUTE_ENDS_SOON)
    lag, ping = figures.lag_ms, figures.ping_ms
    return Outcome(
        runs={load.rate or "as it trades": figures},
        bars=[
            Bar(what="% of what is sent", seen=percent_of_sent(load, figures), least=98),
            Bar(what="rows stored", seen=figures.rows, least=1),
            Bar(what="% of one core", seen=figures.core_percent, most=50),
            Bar(what="RSS, MB", seen=figures.peak_rss / _MEGA, most=300),
            Bar(what="event-loop lag p99, ms", seen=lag.p99 if lag else None, most=20),
            Bar(what="/ping p99, ms", seen=ping.p99 if ping else None, most=20),
        ],
    )


async def minute_close(load: Workload) -> Outcome:
    """Record a midnight at which all candles close.

    Those of all symbols at all intervals, in one moment.
    """
    figures = await measure(load, "--start", _ALL_CLOSE_SOON)
    waited = figures.close_to_stored_ms
    return Outcome(
        runs={"minute close": figures},
        bars=[
            Bar(what="candles closed and found", seen=figures.found, least=load.streams),
            Bar(
                what="close to stored, longest, ms", seen=waited.max if waited else None, most=2000
            ),
        ],
    )


async def subscribe(load: Workload) -> Outcome:
    """Add all streams over HTTP, 300 symbols a call.

    The agent starts without any.
    """
    async with open_scene(load, add_later=True) as scene:
        process, pings = scene.agent.process.pid, Pings()
        before = memory_of(process)
        async with (
            httpx2.AsyncClient(
                base_url=f"http://{scene.command}", timeout=_ADDED_WITHIN_S
            ) as client,
            trio.open_nursery() as asking,
        ):
            asking.start_soon(pings.run, scene.status)
            began_at = trio.current_time()
            for at in range(0, len(scene.symbols), _SYMBOLS_A_CALL):
                await _add(client, scene.symbols[at : at + _SYMBOLS_A_CALL])
            took_s = trio.current_time() - began_at
            asking.cancel_scope.cancel(reason="all are added")
        figures = await figures_of(scene)
        growth = (memory_of(process).now - before.now) / load.streams
    ping, calls = Spread.of(pings.took_ms), len(scene.symbols) / 600
    return Outcome(
        runs={"afterwards": figures},
        bars=[
            Bar(what="streams", seen=figures.streams, least=load.streams),
            Bar(what="added within, s", seen=took_s, most=_ADDED_IN_S * max(1, calls)),
            Bar(what="/ping p99 meanwhile, ms", seen=ping.p99 if ping else None),
            Bar(what="RSS a subscription, kB", seen=growth / _KILO, most=7),
        ],
    )


async def _add(client: httpx2.AsyncClient, symbols: Sequence[str]) -> None:
    try:
        answer = await client.post("/symbols/add", json={"symbols": symbols})
    except httpx2.HTTPError as error:
        raise BenchFailed(f"the agent did not add the streams: {reason_of(error)}") from error
    failed = [each["error"] for each in answer.json().get("results", ()) if "error" in each]
    if answer.is_error or failed:
        reason = failed[0] if failed else answer.json()["error"]
        raise BenchFailed(f"the agent did not add the streams: {reason}")


async def linear(load: Workload) -> Outcome:
    """Compare many symbols with a tenth of them.

    The CPU per message should be the same; a tenth of the symbols gets a tenth of the rate.
    """
    rate = load.rate if load.rate in {None, MAX} else f"{float(load.rate) / _FEWER:g}"
    symbols = {venue: max(1, n // _FEWER) for venue, n in load.symbols.items()}
    fewer = evolve(load, symbols=symbols, rate=rate)
    runs = {f"{sum(each.symbols.values())} symbols": await measure(each) for each in (fewer, load)}
    few, many = (figures.cpu_us_per_message for figures in runs.values())
    ratio = many / few if few and many else None
    return Outcome(runs=runs, bars=[Bar(what="CPU a message, many to few", seen=ratio, most=1.2)])
