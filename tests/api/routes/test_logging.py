from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator

import pytest
from quart.typing import TestClientProtocol as Client

from klineagent.api.app import json_app
from klineagent.api.guard import ANYONE
from klineagent.api.openapi import add_documents
from klineagent.api.routes.logging import add_logging_routes
from klineagent.process.logs import LogLevel, levels, set_level

PATH = "/v1/log-level"


@pytest.fixture(autouse=True)
def _levels_are_restored() -> Iterator[None]:
    before = {name: logging.getLogger(name).level for name in levels()}
    yield
    for name in levels():
        logging.getLogger(name).setLevel(before.get(name, logging.NOTSET))


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    """A client of an app with these routes alone."""
    app = json_app(__name__)
    add_documents(app, ANYONE, title="t", description="d")
    add_logging_routes(app)
    async with app.test_app() as running:
        yield running.test_client()


async def test_levels_are_told_and_changed(client: Client) -> None:
    """Of all of ours where no logger is named."""
    set_level(LogLevel.WARNING)
    assert (await (await client.get(PATH)).get_json())["loggers"]["klineagent"] == "warning"
    answer = await client.put(PATH, json={"level": "debug"})
    assert (await answer.get_json())["loggers"]["klineagent"] == "debug"
    assert levels()["klineagent"] is LogLevel.DEBUG
    answer = await client.put(PATH, json={"level": "error", "logger": "klineagent.process.logs"})
    assert (await answer.get_json())["loggers"]["klineagent.process.logs"] == "error"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"level": "loud"}, "level"),
        ({}, "level"),
        ({"level": "info", "logger": "nothing"}, "logger: there is no logger 'nothing'"),
        ([], "object"),
    ],
)
async def test_what_cannot_be_set(client: Client, body: object, message: str) -> None:
    """It names the field, and changes nothing."""
    before = levels()
    answer = await client.put(PATH, json=body)
    assert answer.status_code == 400
    assert message in (await answer.get_json())["error"]
    assert levels() == before


async def test_it_is_in_the_documents(client: Client) -> None:
    """With the levels there are."""
    document = await (await client.get("/openapi.json")).get_json()
    assert document["paths"][PATH].keys() == {"get", "put"}
    level = document["components"]["schemas"]["LogLevelBody"]["properties"]["level"]
    assert sorted(level["enum"]) == sorted(each.value for each in LogLevel)
