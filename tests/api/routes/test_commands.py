from __future__ import annotations

from typing import Any, Protocol

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from quart_trio import QuartTrio

from klineagent.api.app import MAX_BODY_BYTES
from klineagent.api.routes import commands as command_module
from klineagent.api.routes.commands import command_app
from klineagent.api.subscriptions import Subscriptions
from klineagent.core.errors import NotConfirmed, RequestError
from klineagent.core.interval import Interval
from klineagent.exchange.venues import SPOT, USDM
from klineagent.series.registry import SubscriptionInfo

INTERVALS = (Interval.M1, Interval.H1)
BTC_M1 = {"symbol": "BTCUSDT", "interval": "1m"}
POSTS = ["/streams/add", "/streams/remove", "/symbols/add", "/symbols/remove"]


class Twin(Subscriptions, Protocol):
    """The registry's twin, with its knobs; see conftest."""

    max_symbols: int
    refusals: dict[tuple[str, Interval], RequestError]
    silent: set[tuple[str, Interval]]
    running: dict[tuple[str, Interval], SubscriptionInfo]


@pytest.fixture
def app(subscriptions: Twin) -> QuartTrio:
    """The app over an empty twin."""
    return command_app(subscriptions, INTERVALS, USDM)


async def _get(app: QuartTrio, path: str) -> Any:
    response = await app.test_client().get(path)
    assert response.status_code == 200
    return await response.get_json()


async def _post(app: QuartTrio, path: str, body: object) -> tuple[int, Any]:
    response = await app.test_client().post(path, json=body)
    return response.status_code, await response.get_json()


async def test_queries_of_an_idle_agent(app: QuartTrio) -> None:
    """Every query answers in the contract's shape when nothing runs."""
    assert await _get(app, "/ping") == {"status": "ok", "message": "pong"}
    assert await _get(app, "/connections/count") == {"connection_count": 0}
    assert await _get(app, "/connections/list") == {"connections": [], "count": 0}
    assert await _get(app, "/symbols") == {"symbols": [], "count": 0}
    assert await _get(app, "/status") == {"status": "ok", "connection_count": 0, "symbols": []}


async def test_a_symbol_whose_venue_has_none_of_the_intervals_fails(
    subscriptions: Twin,
) -> None:
    """Nothing of it would be recorded; a symbol beside it that has some is added."""
    app = command_app(subscriptions, [Interval.S1], SPOT)
    status, answer = await _post(app, "/symbols/add", {"symbols": ["usdm:BTCUSDT"]})
    assert (status, answer["error"]) == (400, "intervals: usdm has none of 1s")
    status, answer = await _post(app, "/symbols/add", {"symbols": ["usdm:BTCUSDT", "BTCUSDT"]})
    assert (status, answer["status"]) == (200, "partial")
    assert answer["summary"]["failed_symbols"] == ["usdm:BTCUSDT"]
    assert [each["failed_count"] for each in answer["results"]] == [1, 0]


async def test_queries_of_a_busy_agent(app: QuartTrio) -> None:
    """Every query tells of what was added."""
    await _post(app, "/streams/add", {"symbol": "ETHUSDT", "interval": "1m"})
    await _post(app, "/streams/add", BTC_M1)
    assert await _get(app, "/connections/count") == {"connection_count": 2}
    assert await _get(app, "/symbols") == {"symbols": ["BTCUSDT", "ETHUSDT"], "count": 2}
    listed = await _get(app, "/connections/list")
    assert listed["count"] == 2
    assert listed["connections"][1] == {
        "symbol": "BTCUSDT",
        "interval": "1m",
        "created_at": "2026-02-01T20:00:00+00:00",
        "is_active": True,
    }
    assert await _get(app, "/status") == {
        "status": "ok",
        "connection_count": 2,
        "symbols": ["BTCUSDT", "ETHUSDT"],
    }


async def test_adding_a_stream_twice_is_ok(app: QuartTrio) -> None:
    """Adding a running stream answers as the first time and changes nothing."""
    expected = (200, {"status": "ok", "message": "Added stream for BTCUSDT 1m"})
    assert await _post(app, "/streams/add", {"symbol": " btcusdt ", "interval": " 1m "}) == expected
    assert await _post(app, "/streams/add", BTC_M1) == expected
    assert await _get(app, "/connections/count") == {"connection_count": 1}


async def test_removing_a_stream(app: QuartTrio) -> None:
    """A stream is removed once, the second time there is nothing to remove."""
    await _post(app, "/streams/add", BTC_M1)
    assert await _post(app, "/streams/remove", BTC_M1) == (
        200,
        {"status": "ok", "message": "Removed stream for BTCUSDT 1m"},
    )
    status, answer = await _post(app, "/streams/remove", BTC_M1)
    assert (status, answer) == (404, {"error": "BTCUSDT 1m does not run"})


async def test_adding_symbols(app: QuartTrio) -> None:
    """A symbol named twice is added once, and what ran already counts as skipped."""
    await _post(app, "/streams/add", BTC_M1)
    status, answer = await _post(
        app, "/symbols/add", {"symbols": ["btcusdt", "ETHUSDT", "BTCUSDT "]}
    )
    assert status == 200
    assert 0 <= answer["summary"].pop("duration_seconds") < 5
    counts = {"failed_count": 0, "total_count": 2}
    assert answer == {
        "status": "ok",
        "results": [
            {"symbol": "BTCUSDT", "success_count": 1, "skipped_count": 1, **counts},
            {"symbol": "ETHUSDT", "success_count": 2, "skipped_count": 0, **counts},
        ],
        "current_status": {"connection_count": 4, "symbols": ["BTCUSDT", "ETHUSDT"]},
        "summary": {
            "total_symbols": 2,
            "success_count": 2,
            "failed_count": 0,
            "failed_symbols": [],
        },
    }


async def test_some_symbols_fail(app: QuartTrio) -> None:
    """One symbol that works makes the call a success, in part."""
    status, answer = await _post(app, "/symbols/add", {"symbols": ["NOSUCH", "BTCUSDT"]})
    assert (status, answer["status"]) == (200, "partial")
    assert answer["results"][0] == {
        "symbol": "NOSUCH",
        "success_count": 0,
        "failed_count": 2,
        "skipped_count": 0,
        "total_count": 2,
        "error": "symbol: NOSUCH does not exist on usdm",
    }
    assert "error" not in answer["results"][1]
    assert answer["summary"]["failed_symbols"] == ["NOSUCH"]


async def test_all_symbols_fail(app: QuartTrio, subscriptions: Twin) -> None:
    """When nothing was added, the first failure decides the status."""
    subscriptions.max_symbols = 0
    status, answer = await _post(app, "/symbols/add", {"symbols": ["BTCUSDT", "NOSUCH"]})
    assert status == 409
    assert answer["error"] == answer["results"][0]["error"]
    assert answer["status"] == "partial"
    assert answer["current_status"] == {"connection_count": 0, "symbols": []}


@pytest.mark.parametrize(
    ("path", "body", "named"),
    [
        ("/streams/add", {"interval": "1m"}, "symbol"),
        ("/streams/add", {"symbol": "BTCUSDT"}, "interval"),
        ("/streams/add", {"symbol": 7, "interval": "1m"}, "symbol"),
        ("/streams/add", {"symbol": " ", "interval": "1m"}, "symbol"),
        ("/streams/add", {"symbol": "BTCUSDT", "interval": None}, "interval"),
        ("/streams/add", {"symbol": "BTCUSDT", "interval": "7m"}, "interval"),
        ("/streams/add", {"symbol": "BTCUSDT", "interval": "1s"}, "interval"),
        ("/streams/add", {"symbol": "NOSUCH", "interval": "1m"}, "symbol"),
        ("/streams/remove", {"symbol": "BTCUSDT", "interval": "7m"}, "interval"),
        ("/symbols/add", {}, "symbols"),
        ("/symbols/add", {"symbols": []}, "symbols"),
        ("/symbols/add", {"symbols": "BTCUSDT"}, "symbols"),
        ("/symbols/add", {"symbols": ["BTCUSDT", ""]}, "symbols[1]"),
        ("/symbols/add", {"symbols": ["BTCUSDT", 7]}, "symbols"),
    ],
)
async def test_bad_fields_are_named(
    app: QuartTrio, subscriptions: Twin, path: str, body: object, named: str
) -> None:
    """A field that is missing or wrong is named, and nothing is added."""
    status, answer = await _post(app, path, body)
    assert (status, list(answer)) == (400, ["error"])
    assert named in answer["error"]
    assert subscriptions.count() == 0


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'"x"', b'{"symbol": NaN}', b"\xff", b'{"a":' + b"[" * 50_000],
    ids=["empty", "cut", "list", "null", "string", "nan", "no-utf8", "deep"],
)
async def test_bodies_that_are_no_json_object(app: QuartTrio, path: str, body: bytes) -> None:
    """Whatever is no JSON object is refused as such."""
    response = await app.test_client().post(path, data=body)
    assert response.status_code == 400
    assert "the body" in (await response.get_json())["error"]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from(POSTS), body=st.binary(max_size=200) | st.text().map(str.encode))
async def test_garbage_never_breaks_the_agent(app: QuartTrio, path: str, body: bytes) -> None:
    """No body at all makes the agent fail."""
    response = await app.test_client().post(path, data=body)
    assert response.status_code in {400, 404}
    assert "error" in await response.get_json()


async def test_content_type_does_not_matter(app: QuartTrio) -> None:
    """A body is read as JSON whatever it claims to be."""
    response = await app.test_client().post(
        "/streams/add",
        data=b'{"symbol":"BTCUSDT","interval":"1m"}',
        headers={"Content-Type": "text/plain"},
    )
    assert response.status_code == 200


async def test_errors_outside_the_contract_are_json(app: QuartTrio) -> None:
    """Unknown paths, wrong methods and oversized bodies are answered as JSON."""
    client = app.test_client()
    for response, status in [
        (await client.get("/nowhere"), 404),
        (await client.get("/streams/add"), 405),
        (await client.delete("/ping"), 405),
        (await client.post("/streams/add", data=b" " * (MAX_BODY_BYTES + 1)), 413),
    ]:
        assert response.status_code == status
        assert list(await response.get_json()) == ["error"]


@pytest.mark.logs("Exception on request GET /status")
async def test_unexpected_errors_are_not_shown(
    app: QuartTrio, subscriptions: Twin, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug becomes a 500 without its stack, which goes to the log."""
    del subscriptions.running  # the twin cannot work without
    response = await app.test_client().get("/status")
    assert response.status_code == 500
    assert await response.get_json() == {"error": "Internal Server Error: GET /status"}
    assert "AttributeError" in caplog.text


@pytest.mark.parametrize("path", ["/streams/add", "/symbols/add"])
async def test_a_silent_exchange(
    app: QuartTrio, subscriptions: Twin, autojump_clock: trio.testing.MockClock, path: str
) -> None:
    """An exchange that never confirms is a 504 before callers give up, with nothing left."""
    subscriptions.silent.add(("BTCUSDT", Interval.M1))
    started_at = trio.current_time()
    status, answer = await _post(app, path, {**BTC_M1, "symbols": ["BTCUSDT"]})
    assert status == 504
    assert "did not confirm" in answer["error"]
    assert answer["error"].endswith("the twin is silent")
    assert trio.current_time() - started_at < 30
    assert subscriptions.count() == 0


async def test_a_long_list_lets_others_have_their_turn(
    app: QuartTrio, subscriptions: Twin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is answered in portions, and completely."""
    monkeypatch.setattr(command_module, "STREAMS_AT_ONCE", 10)

    async def turns_while_listing() -> int:
        turns, listed = 0, trio.Event()

        async def take_turns() -> None:
            nonlocal turns
            while not listed.is_set():
                await trio.lowlevel.checkpoint()
                turns += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(take_turns)
            answer = await _get(app, "/connections/list")
            listed.set()
        assert answer["count"] == len(answer["connections"]) == subscriptions.count()
        return turns

    turns_for_nothing = await turns_while_listing()
    portions = 100
    for number in range(portions * 10):
        series = (f"S{number}", Interval.M1)
        subscriptions.running[series] = SubscriptionInfo(*series, "2026-02-01T20:00:00+00:00", True)
    # By far more than it takes anyhow: in which order Trio runs tasks is left to chance.
    assert await turns_while_listing() > turns_for_nothing + portions / 2


async def test_one_silent_symbol_of_many(
    app: QuartTrio, subscriptions: Twin, autojump_clock: trio.testing.MockClock
) -> None:
    """A symbol the exchange does not confirm costs the others of its batch nothing."""
    subscriptions.silent.add(("SYM3", Interval.H1))
    status, answer = await _post(app, "/symbols/add", {"symbols": [f"SYM{n}" for n in range(20)]})
    assert (status, answer["summary"]["failed_symbols"]) == (200, ["SYM3"])
    assert subscriptions.count() == 19 * len(INTERVALS)


async def test_a_refused_interval_undoes_its_symbol(app: QuartTrio, subscriptions: Twin) -> None:
    """Of a symbol that fails, what the call started ends and what ran before stays."""
    await _post(app, "/streams/add", BTC_M1)
    for symbol in ("BTCUSDT", "ETHUSDT"):
        subscriptions.refusals[symbol, Interval.H1] = NotConfirmed("no answer")
    status, answer = await _post(app, "/symbols/add", {"symbols": ["BTCUSDT", "ETHUSDT"]})
    assert (status, answer["error"]) == (504, "no answer")
    assert [result["skipped_count"] for result in answer["results"]] == [1, 0]
    assert [result["failed_count"] for result in answer["results"]] == [1, 2]
    assert [(each.symbol, each.interval) for each in subscriptions.listing()] == [
        ("BTCUSDT", Interval.M1)
    ]
