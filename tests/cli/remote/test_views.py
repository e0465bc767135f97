from __future__ import annotations

from collections.abc import Sequence

import pytest
from msgspec import UNSET
from msgspec.structs import replace
from rich.console import RenderableType

from klineagent.api.models.contract import (
    Connection,
    Connections,
    Current,
    Summary,
    SymbolCounts,
    SymbolsAdded,
)
from klineagent.api.models.reports import (
    Feeds,
    FeedState,
    Limits,
    Search,
    Storage,
    StoredRow,
    StoreSays,
    Why,
)
from klineagent.api.models.subscriptions import (
    ForecastTold,
    StreamsNow,
    SubscriptionOutcome,
    SubscriptionsNow,
    SymbolReason,
)
from klineagent.cli.remote.exchange_views import limits_view
from klineagent.cli.remote.views import (
    added_view,
    audited_view,
    coverage_view,
    list_view,
    outcome_view,
    removal_view,
    set_view,
    status_view,
    why_view,
)
from klineagent.cli.remote.wording import counted
from klineagent.series.desired.wire_format import Excluded, Pattern, Wanted
from tests.cli.remote.answers import (
    AWAY,
    BEHIND,
    FEED,
    LIMITS,
    LOST,
    SERIES,
    STANDING_DOWN,
    STORAGE,
)
from tests.cli.remote.screen import screen, words_of

_UTC_NOON = "2026-02-01T12:00:00+00:00"


def _status(
    streams: int,
    symbols: int,
    feeds: list[FeedState],
    limits: Limits,
    storage: Storage,
    refused: Sequence[SymbolReason] = (),
) -> RenderableType:
    return status_view(
        streams, symbols, feeds=Feeds(feeds), limits=limits, storage=storage, refused=refused
    )


def test_the_status_is_six_lines() -> None:
    """With nothing to scroll through."""
    assert screen(_status(14, 2, [FEED, LOST], STANDING_DOWN, STORAGE)) == [
        "streams   14 of 2 symbols",
        "feeds     1 of 2 up, carrying 14 streams",
        "messages  140 a second",
        "weight    120 of 1920 this minute (2400 allowed); no REST request for 90s",
        "database  12.4k rows stored, 48 on their way",
        "spool     0 rows in 0B of 2GB",
    ]


def test_the_status_tells_of_symbols_that_cannot_be_had() -> None:
    """The first few, with why."""
    refused = [SymbolReason(f"S{at}", f"S{at} does not exist on usdm") for at in range(7)]
    lines = screen(_status(14, 2, [FEED], STANDING_DOWN, STORAGE, refused))
    shown = " ".join(line.strip() for line in lines[1:4])
    assert shown.startswith("refused   S0 does not exist on usdm; S1 does not")
    assert "S4 does not exist on usdm; and 2 more" in shown


def test_the_status_tells_of_a_database_that_takes_no_rows() -> None:
    """Why, and whether they are safe meanwhile."""
    assert STORAGE.spool is not None
    full = replace(STORAGE.spool, rows=1, bytes=1_999_000_000, error="its limit is reached")
    away = replace(AWAY, rows_refused=3, spool=full)
    assert screen(_status(14, 2, [FEED], LIMITS, away))[-3:] == [
        "database  takes no rows: no answer; 12.4k rows stored, 48 on their way, 3",
        "          refused",
        "spool     1 row in 2GB of 2GB; it takes no more: its limit is reached",
    ]
    alone = _status(14, 2, [FEED], LIMITS, replace(STORAGE, spool=None))
    assert screen(alone)[-1].startswith("spool     none")


def test_what_runs_is_a_line_per_symbol() -> None:
    """What no feed carries yet stands apart."""
    connections = [
        Connection("ETHUSDT", "1m", _UTC_NOON, True),
        Connection("BTCUSDT", "1m", _UTC_NOON, True),
        Connection("ETHUSDT", "1h", _UTC_NOON, False),
    ]
    lines = screen(list_view(Connections(connections, 3)))
    assert lines[0].split() == ["3", "streams"]
    assert words_of(lines, "ETHUSDT") == ["ETHUSDT", "2", "1m", "1h"]
    assert words_of(lines, "BTCUSDT") == ["BTCUSDT", "1", "1m"]


def test_intervals_are_listed_by_length() -> None:
    """Not as they were added, nor as their names are spelled; one that is new comes last."""
    names = ("1d", "1M", "10y", "15m", "1h", "1m", "3d", "5m")
    connections = [Connection("BTCUSDT", name, _UTC_NOON, True) for name in names]
    lines = screen(list_view(Connections(connections, len(connections))))
    assert words_of(lines, "BTCUSDT")[2:] == ["1m", "5m", "15m", "1h", "1d", "3d", "1M", "10y"]


def test_one_of_a_thing_is_told_as_one() -> None:
    """Streams, symbols, connections, requests."""
    assert [counted(each, "stream") for each in (0, 1, 2)] == ["0 streams", "1 stream", "2 streams"]
    feed = replace(FEED, streams_carried=1)
    lines = screen(_status(1, 1, [feed], LIMITS, STORAGE))
    assert lines[:2] == ["streams   1 of 1 symbol", "feeds     1 of 1 up, carrying 1 stream"]
    connections = [Connection("BTCUSDT", "1m", _UTC_NOON, True)]
    assert screen(list_view(Connections(connections, 1)))[0].split() == ["1", "stream"]
    shown = "\n".join(screen(limits_view(LIMITS)))
    assert "1 connection\n" in shown
    assert "1 request under way" in shown


def test_the_set_is_told_as_it_was_asked_for() -> None:
    """Patterns with their filters, exceptions, and why something does not run."""
    now = SubscriptionsNow(
        subscriptions=[
            Wanted(symbols=["BTCUSDT"], intervals=["1m", "1h"], origin="configuration"),
            Wanted(
                match=Pattern("*USDT", contract="PERPETUAL", exclude=["B*"]),
                intervals="all",
                origin="http",
            ),
        ],
        exclude=[Excluded(["XRPUSDT"], ["1m"])],
        symbols=3,
        max_symbols=100,
        streams=StreamsNow(wanted=32, active=30, pending=2, ending=1),
        pending=[SymbolReason("OMGUSDT", "does not trade [SETTLING]")],
        refused=[],
        saved=False,
        unmatched=[Pattern("NOPE*", quote="USDT")],
    )
    text = "\n".join(screen(set_view(now)))
    for shown in (
        "*USDT PERPETUAL but B*",
        "without XRPUSDT",
        "32 streams of 3 symbols (100 allowed): 30 active, 2 pending, 1 ending",
        "NOPE* USDT: matches no symbol at the moment",
        "OMGUSDT: does not trade [SETTLING]",
        "not saved",
    ):
        assert shown in text


def test_what_became_of_each_symbol() -> None:
    """With the reason of a failure."""
    results = [
        SymbolCounts("BTCUSDT", 5, 0, 2, 7, UNSET),
        SymbolCounts("NOPE", 0, 7, 0, 7, "symbol: NOPE does not exist"),
    ]
    summary = Summary(2, 1, 1, ["NOPE"], 0.1)
    lines = screen(added_view(SymbolsAdded("partial", results, Current(7, ["BTCUSDT"]), summary)))
    assert words_of(lines, "BTCUSDT") == ["BTCUSDT", "5", "2", "0"]
    assert words_of(lines, "NOPE")[:4] == ["NOPE", "0", "0", "7"]


_OUTCOME = SubscriptionOutcome(
    dry_run=False,
    added=10,
    removed=0,
    added_streams=[f"S{number} 1m" for number in range(10)],
    removed_streams=[],
    wanted=24,
    symbols=12,
    forecast=ForecastTold(1, 0, 0.2, 5000, 50, 0.03, 34_560, 1_400_000),
    saved=False,
    unmatched=[Pattern("NOPE*")],
)


def test_a_removal_that_ends_nothing() -> None:
    """Otherwise it would look like a success; that the set is not saved takes precedence."""
    outcome = replace(_OUTCOME, added=0, added_streams=[], saved=True)
    unmatched = outcome.unmatched
    assert "klineagent list --set" in "".join(screen(removal_view(unmatched, outcome)))
    not_saved = replace(outcome, saved=False)
    assert "not survive" in "\n".join(screen(removal_view(unmatched, not_saved)))
    ended = replace(outcome, removed=1, removed_streams=["BTCUSDT 1m"])
    assert "BTCUSDT 1m" in "\n".join(screen(removal_view(unmatched, ended)))


@pytest.mark.parametrize(
    ("dry_run", "shown"),
    [
        (False, "no stream ends: ZZZ* USDT is out of the set, and matched no symbol"),
        (True, "no stream would end: ZZZ* USDT would be out of the set, and matched no symbol"),
    ],
)
def test_a_removal_of_a_pattern_that_matched_nothing(dry_run: bool, shown: str) -> None:
    """It was in the set, and no longer is."""
    outcome = replace(_OUTCOME, added=0, added_streams=[], saved=not dry_run, dry_run=dry_run)
    before = [Pattern("ZZZ*", quote="USDT"), *outcome.unmatched]
    assert screen(removal_view(before, outcome)) == [shown]


@pytest.mark.parametrize("dry_run", [True, False])
def test_what_a_change_takes(dry_run: bool) -> None:
    """A dry run is worded as what would happen."""
    outcome = replace(_OUTCOME, dry_run=dry_run)
    text = "\n".join(screen(outcome_view(outcome)))
    assert ("would be added" in text) is dry_run
    assert ("not survive" in text) is not dry_run
    assert "NOPE*: matches no symbol at the moment" in text
    assert "S7 1m and 2 more" in " ".join(text.split())
    assert "34.6k rows, 1.4MB" in text


def test_coverage_fits_and_tells_why() -> None:
    """Spans where they are asked for; an exchange's words are no markup."""
    lines = screen(coverage_view([SERIES, BEHIND], with_spans=True))
    assert words_of(lines, "BTCUSDT") == [
        *("BTCUSDT", "1m", "2026-02-01", "00:00", "500", "0", "0", "490", "02-01", "08:19")
    ]
    assert lines[-4:] == [
        "BTCUSDT 1m compared with the database 2026-02-01 08:12:05 UTC",
        "BTCUSDT 1m missing 2026-02-01 08:17 to 2026-02-01 08:18: its closing event did",
        "not come in time (no [answer])",
        "BTCUSDT 1m absent 2026-02-01 05:00: no trades",
    ]


@pytest.mark.parametrize(
    ("audits", "text"),
    [
        (["08:12", "07:30"], "compared with the database since 2026-02-01 07:30:00 UTC"),
        ([None, None], "2 not compared yet"),
        (
            ["08:12", None],
            "compared with the database since 2026-02-01 08:12:00 UTC; 1 not compared yet",
        ),
    ],
)
def test_since_when_all_series_were_audited(audits: list[str | None], text: str) -> None:
    """The one whose last audit is the oldest counts; one line, however many there are."""
    series = [replace(SERIES, audited=at and f"2026-02-01T{at}:00.000+00:00") for at in audits]
    assert " ".join(screen(audited_view(series))) == text


@pytest.mark.parametrize(
    ("interval", "row", "absent"),
    [
        ("1s", "2026-02-01 00:00 497 2 1 490 02-01 08:19 3m", "2026-02-01 05:00:00"),
        ("12h", "2026-02-01 00:00 497 2 1 490 02-01 08:19 3m", "2026-02-01 05:00"),
        ("1d", "2026-02-01 497 2 1 490 02-01 3m", "2026-02-01"),
        ("1M", "2026-02-01 497 2 1 490 02-01 3m", "2026-02-01"),
        ("10y", "2026-02-01 00:00 497 2 1 490 02-01 08:19 3m", "2026-02-01 05:00"),
    ],
)
def test_times_are_as_exact_as_candles_are_short(interval: str, row: str, absent: str) -> None:
    """To the second, the minute or the day; to the minute for an unknown interval."""
    behind = replace(BEHIND, interval=interval)
    lines = screen(coverage_view([behind], with_spans=True))
    assert words_of(lines, "BTCUSDT") == ["BTCUSDT", interval, *row.split()]
    assert lines[-1] == f"BTCUSDT {interval} absent {absent}: no trades"


def test_one_candle() -> None:
    """Where it is, or what is done about it."""
    why = Why(
        symbol="BTCUSDT",
        venue="usdm",
        interval="1m",
        open_time=_UTC_NOON,
        close_time=_UTC_NOON,
        state="on_its_way",
        explanation="It came.",
        due=_UTC_NOON,
        store=StoreSays(True, StoredRow(7, _UTC_NOON, 1.5, 2.25, 1.25, 2.0, 10.0, 12)),
        search=Search(_UTC_NOON, "missed", "silence", 3, "no [answer]", "its turn"),
    )
    text = "\n".join(screen(why_view(why)))
    assert "BTCUSDT 1m 2026-02-01 12:00 UTC" in text
    for shown in ("on its way", "3, next: its turn", "no [answer]", "close 2 volume 10, 12 trades"):
        assert shown in text
