"""Answers of agents, for tests of their views."""

from __future__ import annotations

from msgspec.structs import replace

from klineagent.api.models.reports import (
    AbsentCandles,
    AbsentSpan,
    ConnectionLimits,
    Feeds,
    FeedState,
    LastLoss,
    Limits,
    MessageLimits,
    MissingCandles,
    MissingSpan,
    RestLimits,
    SeriesCoverage,
    SpoolState,
    Storage,
    StreamLimits,
)
from klineagent.cli.remote.snapshot import Snapshot

LIMITS = Limits(
    venue="usdm",
    rest=RestLimits(
        pool="futures",
        used=120,
        limit=1920,
        allowed=2400,
        share=0.8,
        minute_ends_in_seconds=12.5,
        requests_under_way=1,
        requests_waiting=7,
        standing_down_seconds=0.0,
    ),
    connections=ConnectionLimits(used=3, limit=300, window_seconds=300.0),
    streams=StreamLimits(wanted=14, limit_per_connection=1000, connections=1),
    messages=MessageLimits(limit_per_second=5.0, streams_per_message=200),
)
STORAGE = Storage(
    database="clickhouse://db.example:9000/market",
    takes_rows=True,
    rows_stored=12_400,
    rows_waiting=48,
    rows_refused=0,
    spool=SpoolState(where="spool", rows=0, batches=0, bytes=0, limit_bytes=2_000_000_000),
)
AWAY = replace(STORAGE, takes_rows=False, error="no answer")
STANDING_DOWN = replace(LIMITS, rest=replace(LIMITS.rest, standing_down_seconds=90.0))

FEED = FeedState(
    venue="usdm",
    number=1,
    state="up",
    streams_wanted=14,
    streams_carried=14,
    messages=900,
    messages_per_second=70.0,
    dials=1,
    lost=0,
    replaced=0,
    age_seconds=7200.0,
    last_data_seconds_ago=0.2,
)
LOST = replace(
    FEED,
    state="down",
    streams_carried=0,
    lost=1,
    age_seconds=None,
    last_loss=LastLoss("closed by the exchange: [1001]", 3.0),
)

_NONE_MISSING = MissingCandles(0, [], 0)
SERIES = SeriesCoverage(
    symbol="BTCUSDT",
    venue="usdm",
    interval="1m",
    is_active=True,
    expected=500,
    stored=500,
    missing=_NONE_MISSING,
    absent=AbsentCandles(0, [], 0),
    healed=490,
    lag_seconds=0.0,
    from_="2026-02-01T00:00:00+00:00",
    to="2026-02-01T08:19:00+00:00",
    last_close="2026-02-01T08:19:59.999+00:00",
    audited="2026-02-01T08:12:05.123+00:00",
)
BEHIND = replace(
    SERIES,
    stored=497,
    missing=MissingCandles(
        2,
        [
            MissingSpan(
                "2026-02-01T08:17:00+00:00",
                "2026-02-01T08:18:00+00:00",
                2,
                "missed",
                "its closing event did not come in time",
                "no [answer]",
            )
        ],
        0,
    ),
    absent=AbsentCandles(
        1,
        [AbsentSpan("2026-02-01T05:00:00+00:00", "2026-02-01T05:00:00+00:00", 1, "no trades")],
        0,
    ),
    lag_seconds=180.0,
)


def a_snapshot(
    *,
    symbols: int = 2,
    feeds: tuple[FeedState, ...] = (FEED,),
    limits: Limits = LIMITS,
    storage: Storage = STORAGE,
    behind: tuple[SeriesCoverage, ...] = (),
) -> Snapshot:
    """An agent at seven intervals."""
    return Snapshot(
        symbols=symbols,
        streams=7 * symbols,
        feeds=Feeds(list(feeds)),
        limits=limits,
        storage=storage,
        behind=behind[:50],
        incomplete=sum(each.missing.candles > 0 for each in behind),
        missing=sum(each.missing.candles for each in behind),
    )
