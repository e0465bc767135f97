"""The agent among others."""

from __future__ import annotations

from attrs import evolve

from klineagent.bench.load import MAX
from klineagent.bench.outcome import Bar
from klineagent.bench.peers.ranking import (
    OURS,
    OURS_UPDATES,
    Entry,
    bars_of,
    best_of,
    in_terms_of_ours,
    medians_of,
)


def entry(client: str, cpu_us: float | None, **details: object) -> Entry:
    """Of a client that has kept up with 20,000 a second over TLS; ours takes 2 us."""
    measured = Entry(
        client=client,
        version="1",
        tls=True,
        rate="20000",
        messages_per_s=20_000,
        cpu_us_per_message=cpu_us,
        times_ours=cpu_us and cpu_us / 2,
    )
    return evolve(measured, **details)  # type: ignore[arg-type]  # whatever a test says


PACED = [
    entry(OURS, 2.0),
    entry(OURS_UPDATES, 7.0),
    entry("cryptofeed", 8.5),
    entry("hasty", 4.0, messages_per_s=19_000),
    entry("python-binance", 25.0),
    entry("absent", None, messages_per_s=None, failure="not installed"),
]


def quarter(entries: list[Entry]) -> Bar:
    """The bar about the best of the others."""
    (bar,) = (bar for bar in bars_of(entries) if bar.most is not None)
    return bar


def test_of_several_turns_the_median_counts() -> None:
    """Of each client its own; turns in which it failed count as the slowest."""
    turns = [
        [entry(OURS, ours), entry("cryptofeed", theirs)]
        for ours, theirs in ((2.0, None), (9.0, 7.0), (2.1, 8.0))
    ]
    assert [each.cpu_us_per_message for each in medians_of(turns)] == [2.1, 8.0]
    assert medians_of(turns[:1]) == turns[0]


def test_all_are_compared_with_the_agent() -> None:
    """By CPU time a message; who has not run is not compared, nor anybody without the agent."""
    entries = [evolve(each, times_ours=None) for each in PACED]
    assert [each.times_ours for each in in_terms_of_ours(entries)] == [1, 3.5, 4.25, 2, 12.5, None]
    assert {each.times_ours for each in in_terms_of_ours(entries[1:])} == {None}


def test_the_best_is_the_cheapest_of_those_that_keep_up() -> None:
    """Not the agent itself, and none that has left a part of it lying."""
    best = best_of(PACED)
    assert best is not None
    assert best.client == "cryptofeed"
    assert best_of(PACED[:2]) is None


def test_our_cost_is_a_share_of_the_best_ones() -> None:
    """A quarter of it is enough, at the same rate over TLS."""
    bar = quarter(PACED)
    assert bar.what == "our CPU, times cryptofeed's, at 20000, TLS"
    assert bar.seen == 2 / 8.5
    assert bar.is_met
    assert not quarter([entry(OURS, 2.2), *PACED[1:]]).is_met


def test_without_somebody_who_keeps_up_there_is_no_share() -> None:
    """Neither the others nor, worse, the agent."""
    assert quarter(PACED[:2]).seen is None
    assert quarter([entry(OURS, 2.0, messages_per_s=19_000), *PACED[1:]]).seen is None


def test_plain_sockets_have_no_such_bar() -> None:
    """An exchange has none."""
    assert bars_of([evolve(each, tls=False) for each in PACED]) == []


def test_saturated_others_cost_many_times_as_much() -> None:
    """So many times as each has a bar for, over each transport; who has none is left out."""
    saturated = [
        entry("trio-websocket, json", 24.0, rate=MAX),
        entry("cryptofeed", 15.0, rate=MAX, tls=False),
        entry("ccxt.pro", 30.0, rate=MAX),
        entry("the same, then a thread", None, rate=MAX, failure="not installed"),
    ]
    bars = {bar.what: (bar.seen, bar.is_met) for bar in bars_of(saturated)}
    assert bars == {
        "CPU of trio-websocket, json, times ours, saturated, TLS": (12, True),
        "CPU of the old agent's path, times ours, saturated, TLS": (None, False),
        "CPU of cryptofeed, times ours, saturated, plain": (7.5, False),
    }
