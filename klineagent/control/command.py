"""The command server's app: what runs, and adding and removing it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import structlog
import trio
from quart import ResponseReturnValue, request
from quart_trio import QuartTrio

from klineagent.control.application import json_app
from klineagent.control.requests import stream_request, symbols_request
from klineagent.control.status import PONG
from klineagent.control.subscriptions import Subscriptions, not_confirmed
from klineagent.control.symbols import SymbolResult, add_symbols, summary
from klineagent.kline import Interval
from klineagent.market.venues import Venue
from klineagent.series.registry import SubscriptionInfo

# A second less than callers wait, so that they read the reason instead of hanging up.
ADD_STREAM_WITHIN_S = 29
REMOVE_STREAM_WITHIN_S = 9

log = structlog.get_logger()


def command_app(
    subscriptions: Subscriptions, intervals: Sequence[Interval], venue: Venue
) -> QuartTrio:
    """An app that commands `subscriptions`; adding a symbol adds all `intervals`.

    The queries never wait for anything, so only commands have deadlines.
    """
    app = json_app(__name__)

    @app.get("/ping")
    async def ping() -> ResponseReturnValue:
        return PONG

    @app.get("/connections/count")
    async def count_connections() -> ResponseReturnValue:
        return {"connection_count": subscriptions.count()}

    @app.get("/connections/list")
    async def list_connections() -> ResponseReturnValue:
        connections = [_as_json(info) for info in subscriptions.listing()]
        return {"connections": connections, "count": len(connections)}

    @app.get("/symbols")
    async def list_symbols() -> ResponseReturnValue:
        symbols = subscriptions.symbols()
        return {"symbols": symbols, "count": len(symbols)}

    @app.get("/status")
    async def status() -> ResponseReturnValue:
        return {"status": "ok", **_current(subscriptions)}

    @app.post("/streams/add")
    async def add_stream() -> ResponseReturnValue:
        asked = stream_request(await request.get_data(), venue)
        with _confirmed_within(ADD_STREAM_WITHIN_S, subscriptions):
            is_new = await subscriptions.add(asked.symbol, asked.interval)
        if is_new:
            log.info("stream_added", symbol=asked.symbol, interval=str(asked.interval))
        return {"status": "ok", "message": f"Added stream for {asked.symbol} {asked.interval}"}

    @app.post("/streams/remove")
    async def remove_stream() -> ResponseReturnValue:
        asked = stream_request(await request.get_data(), venue)
        with _confirmed_within(REMOVE_STREAM_WITHIN_S, subscriptions):
            await subscriptions.remove(asked.symbol, asked.interval)
        log.info("stream_removed", symbol=asked.symbol, interval=str(asked.interval))
        return {"status": "ok", "message": f"Removed stream for {asked.symbol} {asked.interval}"}

    @app.post("/symbols/add")
    async def add_all() -> ResponseReturnValue:
        symbols = symbols_request(await request.get_data())
        started_at = trio.current_time()
        results = await add_symbols(subscriptions, symbols, intervals)
        log.info(
            "symbols_added",
            streams=sum(result.started for result in results),
            failed=[result.symbol for result in results if result.failure],
        )
        return _symbols_answer(results, _current(subscriptions), trio.current_time() - started_at)

    return app


@contextmanager
def _confirmed_within(seconds: float, subscriptions: Subscriptions) -> Iterator[None]:
    try:
        with trio.fail_after(seconds):
            yield
    except trio.TooSlowError:
        raise not_confirmed(subscriptions, seconds) from None


def _current(subscriptions: Subscriptions) -> dict[str, object]:
    return {"connection_count": subscriptions.count(), "symbols": subscriptions.symbols()}


def _as_json(info: SubscriptionInfo) -> dict[str, object]:
    return {
        "symbol": info.symbol,
        "interval": str(info.interval),
        "created_at": info.created_at.isoformat(timespec="seconds"),
        "is_active": info.is_active,
    }


def _symbols_answer(
    results: Sequence[SymbolResult], current: dict[str, object], duration_s: float
) -> ResponseReturnValue:
    """Success as long as one symbol succeeded; else the status of the first failure."""
    failures = [result.failure for result in results if result.failure]
    answer = {
        "status": "partial" if failures else "ok",
        "results": [result.as_json() for result in results],
        "current_status": current,
        "summary": summary(results, duration_s),
    }
    if len(failures) < len(results):
        return answer
    return {"error": str(failures[0]), **answer}, failures[0].http_status
