"""The agent compared with other clients."""

from __future__ import annotations

from attrs import evolve

from klineagent.bench.outcome import Bar
from klineagent.bench.peers.ranking import (
    OURS,
    OURS_UPDATES,
    PeerResult,
    bars_of,
    best_of,
    in_terms_of_ours,
    medians_of,
)
from klineagent.bench.workload import MAX


def result(client: str, cpu_us: float | None, **details: object) -> PeerResult:
    """Of a client that has kept up with 20,000 a second over TLS; ours takes 2 us."""
    measured = PeerResult(
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
    result(OURS, 2.0),
    result(OURS_UPDATES, 7.0),
    result("cryptofeed", 8.5),
    result("hasty", 4.0, messages_per_s=19_000),
    result("python-binance", 25.0),
    result("absent", None, messages_per_s=None, failure="not installed"),
]


def quarter(results: list[PeerResult]) -> Bar:
    """The bar that compares us with the best of the others."""
    (bar,) = (bar for bar in bars_of(results) if bar.most is not None)
    return bar


def test_the_median_of_several_turns_counts() -> None:
    """Each client has its own median; failed turns count as the slowest."""
    turns = [
        [result(OURS, ours), result("cryptofeed", theirs)]
        for ours, theirs in ((2.0, None), (9.0, 7.0), (2.1, 8.0))
    ]
    assert [each.cpu_us_per_message for each in medians_of(turns)] == [2.1, 8.0]
    assert medians_of(turns[:1]) == turns[0]


def test_all_are_compared_with_the_agent() -> None:
    """By CPU per message; there is no multiple for clients that failed, nor without the agent."""
    results = [evolve(each, times_ours=None) for each in PACED]
    assert [each.times_ours for each in in_terms_of_ours(results)] == [1, 3.5, 4.25, 2, 12.5, None]
    assert {each.times_ours for each in in_terms_of_ours(results[1:])} == {None}


def test_the_best_is_the_cheapest_client_that_keeps_up() -> None:
    """The agent itself and clients that lost frames do not count."""
    best = best_of(PACED)
    assert best is not None
    assert best.client == "cryptofeed"
    assert best_of(PACED[:2]) is None


def test_our_cost_is_compared_with_the_best() -> None:
    """A quarter of it meets the bar, at the same rate over TLS."""
    bar = quarter(PACED)
    assert bar.what == "our CPU, times cryptofeed's, at 20000, TLS"
    assert bar.seen == 2 / 8.5
    assert bar.is_met
    assert not quarter([result(OURS, 2.2), *PACED[1:]]).is_met


def test_without_a_client_that_keeps_up_there_is_no_share() -> None:
    """Either none of the others keeps up, or the agent does not."""
    assert quarter(PACED[:2]).seen is None
    assert quarter([result(OURS, 2.0, messages_per_s=19_000), *PACED[1:]]).seen is None


def test_plain_sockets_have_no_such_bar() -> None:
    """Real exchanges offer TLS only."""
    assert bars_of([evolve(each, tls=False) for each in PACED]) == []


def test_saturated_clients_are_compared_by_multiples() -> None:
    """Each client with a bar has one per transport; the others have none."""
    saturated = [
        result("trio-websocket, json", 24.0, rate=MAX),
        result("cryptofeed", 15.0, rate=MAX, tls=False),
        result("ccxt.pro", 30.0, rate=MAX),
        result("the same, then a thread", None, rate=MAX, failure="not installed"),
    ]
    bars = {bar.what: (bar.seen, bar.is_met) for bar in bars_of(saturated)}
    assert bars == {
        "CPU of trio-websocket, json, times ours, saturated, TLS": (12, True),
        "CPU of the old agent's path, times ours, saturated, TLS": (None, False),
        "CPU of cryptofeed, times ours, saturated, plain": (7.5, False),
    }
