from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec import Struct
from quart import Response
from quart_trio import QuartTrio
from trio.testing import MockClock

from klineagent.api.app import json_app
from klineagent.api.guard import ANYONE, OPEN_PATHS, Guard
from klineagent.api.openapi import TAGS, add_documents, operation
from klineagent.api.requests import read_query
from klineagent.core.errors import NotConfirmed, NotRunning
from klineagent.testing.simulation import open_simulation

TOKEN = "0123456789abcdef"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}


async def _document(app: QuartTrio) -> dict[str, Any]:
    answer = await app.test_client().get("/openapi.json", headers=HEADERS)
    assert answer.status_code == 200
    document: dict[str, Any] = await answer.get_json()
    return document


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, each in methods.items():
            yield path, method, each


async def test_everything_that_is_routed_is_documented(autojump_clock: MockClock) -> None:
    """Each path and method, with a summary, a tag, an id of its own and every answer described."""
    async with open_simulation(token=TOKEN) as simulation:
        for app in (simulation.agent.command, simulation.agent.status):
            document = await _document(app)
            documented = {(path, method) for path, method, _ in _operations(document)}
            routed = {
                (re.sub("<(?:.*:)?(.*?)>", r"{\1}", rule.rule), method.lower())
                for rule in app.url_map.iter_rules()
                for method in rule.methods or ()
                if method not in {"HEAD", "OPTIONS"}
            }
            assert documented == routed
            ids = [each["operationId"] for *_, each in _operations(document)]
            assert len(ids) == len(set(ids))
            for path, _, each in _operations(document):
                assert each["summary"], path
                assert set(each["tags"]) <= TAGS.keys()
                assert "500" in each["responses"]
                assert ("401" in each["responses"]) == (each.get("security") != [])
                assert not ("requestBody" in each and "413" not in each["responses"])
                for answer in each["responses"].values():
                    assert answer["description"], path


async def test_every_reference_leads_somewhere(autojump_clock: MockClock) -> None:
    """Models hold models; all of them are there."""
    async with open_simulation(token=TOKEN) as simulation:
        for app in (simulation.agent.command, simulation.agent.status):
            document = await _document(app)
            named = set(re.findall(r'"#/components/schemas/(.*?)"', json.dumps(document)))
            assert named <= document["components"]["schemas"].keys()


async def test_what_is_open_is_told_so(autojump_clock: MockClock) -> None:
    """The documents have the guards' errors."""
    async with open_simulation(token=TOKEN) as simulation:
        agent = simulation.agent
        page = {"/", "/dashboard/{name}"}
        for app, open_paths in ((agent.command, page), (agent.status, set(OPEN_PATHS))):
            document = await _document(app)
            assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
            documented = {
                path for path, _, each in _operations(document) if each.get("security") == []
            }
            assert documented == open_paths & document["paths"].keys()


async def test_without_a_token_none_is_asked_for(autojump_clock: MockClock) -> None:
    """No security scheme where there is no security."""
    async with open_simulation() as simulation:
        document = await _document(simulation.agent.command)
    assert "security" not in document
    assert all("401" not in each["responses"] for *_, each in _operations(document))


async def test_the_page_loads_nothing_from_elsewhere() -> None:
    """No address in it but its own, and a policy that would stop any other."""
    app = json_app(__name__)
    add_documents(app, ANYONE, title="t", description="d")
    answer = await app.test_client().get("/docs")
    page, policy = await answer.get_data(as_text=True), answer.headers["Content-Security-Policy"]
    assert re.findall(r"(?:https?:)?//[\w.-]+\.\w+|@import|\burl\(|src=", page) == []
    assert set(re.findall(r'href[:=] ?"(.*?)"', page)) == {"openapi.json"}
    assert set(re.findall(r'fetch\("(.*?)"', page)) == {"openapi.json"}
    assert "innerHTML" not in page
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert "unsafe" not in policy


class Inner(Struct):
    """An inner part."""

    value: int


class Query(Struct):
    """A query."""

    symbol: str
    dry_run: bool = False


class Outer(Struct):
    """An outer part."""

    inners: list[Inner]
    asked: str = ""


async def test_how_an_endpoint_is_declared() -> None:
    """What the module promises: Structs as answers, statuses, texts, parameters, refusals."""
    app = json_app(__name__, Guard(token=TOKEN.encode()))
    add_documents(app, Guard(token=TOKEN.encode()), title="t", description="d")

    @app.get("/outer")
    @operation({200: Outer, 503: Inner}, tag="data", query=Query, raises=[NotRunning, NotConfirmed])
    async def outer() -> Outer | tuple[Inner, int]:
        """Ask.

        Nothing more.
        """
        asked = read_query(Query)
        return (Inner(1), 503) if asked.dry_run else Outer([Inner(2)], asked.symbol)

    @app.get("/text/<name>")
    @operation("text/plain", tag="health")
    async def text(name: str) -> Response:
        """Tell."""
        return Response("a text", content_type="text/plain")

    client = app.test_client()
    answer = await client.get("/outer?symbol=BTC", headers=HEADERS)
    assert await answer.get_json() == {"inners": [{"value": 2}], "asked": "BTC"}
    answer = await client.get("/outer?symbol=BTC&dry_run=1", headers=HEADERS)
    assert (answer.status_code, await answer.get_json()) == (503, {"value": 1})
    for query, named in [
        ("", "symbol"),
        ("?symbol=a&symbol=b", "symbol: given more than once"),
        ("?symbol=a&dry_run=maybe", "dry_run"),
        ("?symbol=a&x=1", "x: no such parameter; known are dry_run, symbol"),
    ]:
        answer = await client.get(f"/outer{query}", headers=HEADERS)
        assert answer.status_code == 400
        assert named in (await answer.get_json())["error"]

    document = await _document(app)
    documented = document["paths"]["/outer"]["get"]
    assert (documented["summary"], documented["description"].strip()) == ("Ask.", "Nothing more.")
    assert {each["name"]: each["required"] for each in documented["parameters"]} == {
        "symbol": True,
        "dry_run": False,
    }
    assert list(documented["responses"]) == ["200", "400", "401", "404", "500", "503", "504"]
    assert {"Outer", "Inner", "Error"} <= document["components"]["schemas"].keys()
    text_of = document["paths"]["/text/{name}"]["get"]
    assert [(each["name"], each["in"]) for each in text_of["parameters"]] == [("name", "path")]
    plain = text_of["responses"]["200"]
    assert plain["content"] == {"text/plain": {"schema": {"type": "string"}}}


def test_an_unknown_tag_is_a_mistake() -> None:
    """It would make a section without a text."""
    with pytest.raises(ValueError, match="none of"):
        operation(Outer, tag="nonsense")
