from __future__ import annotations

import base64
import re
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quart_trio import QuartTrio
from trio.testing import MockClock

from klineagent.api.app import json_app
from klineagent.api.guard import OPEN_PATHS, Guard, RequestHead, is_loopback, is_page
from klineagent.api.routes.health import status_app
from klineagent.core.errors import Forbidden, Unauthorized
from klineagent.testing.simulation import open_simulation

TOKEN = "0123456789abcdef-the-right-one"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
WRONG = [
    None,
    "",
    "Bearer",
    "Bearer ",
    TOKEN,
    f"Basic {TOKEN}",
    f"Bearer {TOKEN[:-1]}",
    f"Bearer {TOKEN}x",
    f"Bearer {TOKEN.upper()}",
    f"Bearer x {TOKEN}",
    "Bearer ümläut",
]


def _paths(app: QuartTrio) -> list[str]:
    """Everything that is routed, and something that is not."""
    routed = {re.sub("<.*?>", "x", rule.rule) for rule in app.url_map.iter_rules()}
    assert len(routed) >= 3
    return [*sorted(routed), "/nowhere"]


@pytest.mark.slow
async def test_without_the_token_only_signs_of_life_answer(autojump_clock: MockClock) -> None:
    """Every route of both servers, by every method, with everything but the token."""
    async with open_simulation(token=TOKEN) as simulation:
        agent = simulation.agent
        for app, open_paths in (
            (agent.command, {path for path in _paths(agent.command) if is_page(path)}),
            (agent.status, OPEN_PATHS),
        ):
            client = app.test_client()
            for path, method, wrong in product(_paths(app), METHODS, WRONG):
                headers = {} if wrong is None else {"Authorization": wrong}
                answer = await client.open(path, method=method, headers=headers)  # type: ignore[call-arg]  # it has defaults
                assert (answer.status_code == 401) == (path not in open_paths), (path, method)
                assert ("WWW-Authenticate" in answer.headers) == (path not in open_paths)


async def test_with_the_token_everything_answers(autojump_clock: MockClock) -> None:
    """The scheme's case does not matter; the token's does."""
    async with open_simulation(token=TOKEN) as simulation:
        for app in (simulation.agent.command, simulation.agent.status):
            for path in _paths(app):
                for scheme in ("Bearer", "bearer"):
                    headers = {"Authorization": f"{scheme} {TOKEN}"}
                    answer = await app.test_client().get(path, headers=headers)
                    assert answer.status_code not in {401, 403}


async def test_where_strangers_can_ask_they_learn_of_life_only() -> None:
    """A status server on an open address, without a token, keeps its figures to itself."""
    app = status_app(Guard(open_paths=OPEN_PATHS, is_closed=True))
    for path in _paths(app):
        answer = await app.test_client().get(path)
        assert answer.status_code == (200 if path in OPEN_PATHS else 403)
        if path not in OPEN_PATHS:
            assert "--allow-anonymous" in (await answer.get_json())["error"]


async def test_strangers_are_turned_away_before_their_body_is_read() -> None:
    """A body that never comes is not waited for."""
    app = json_app(__name__, Guard(token=TOKEN.encode()))
    async with app.test_client().request("/nowhere", method="POST") as connection:
        await connection.send(b"the beginning of")
        answer = await connection.as_response()
    assert answer.status_code == 401


@pytest.mark.parametrize(
    ("headers", "passes"),
    [
        ({}, True),
        ({"host": "127.0.0.1:9999"}, True),
        ({"host": "localhost:9999"}, True),
        ({"host": "[::1]:9999"}, True),
        ({"host": "agent.localhost"}, True),
        ({"host": "evil.example"}, False),
        ({"host": "["}, False),
        ({"host": "localhost"}, True),
        ({"host": "localhost.evil.example"}, False),
        ({"host": "localhost:9999", "origin": "http://localhost:9999"}, True),
        ({"host": "localhost:9999", "origin": "http://evil.example"}, False),
        ({"host": "localhost:9999", "origin": "http://localhost:8000"}, False),
        ({"host": "localhost:9999", "origin": "null"}, False),
        ({"host": "localhost:9999", "fetch_site": "none"}, True),
        ({"host": "localhost:9999", "fetch_site": "same-origin"}, True),
        ({"host": "localhost:9999", "fetch_site": "cross-site"}, False),
        ({"host": "localhost:9999", "fetch_site": "same-site"}, False),
    ],
)
def test_web_pages_of_others_do_not_command(headers: dict[str, str], passes: bool) -> None:
    """Web pages in a browser on this machine must not send commands."""
    request = RequestHead(path="/streams/add", **headers)
    if passes:
        Guard(is_local=True).check(request)
    else:
        with pytest.raises(Forbidden):
            Guard(is_local=True).check(request)


@given(path=st.text(), authorization=st.text(), host=st.text(), origin=st.text())
def test_garbage_is_refused_like_anything_else(
    path: str, authorization: str, host: str, origin: str
) -> None:
    """No header crashes a guard, and no random one passes."""
    request = RequestHead(path=path, authorization=authorization, host=host, origin=origin)
    with pytest.raises(Unauthorized):
        Guard(token=TOKEN.encode()).check(request)
    try:
        Guard(is_local=True).check(request)
    except Forbidden as error:
        assert str(error)  # noqa: PT017 - either outcome is right


def test_the_token_stays_out_of_sight() -> None:
    """Neither the guard nor its refusal shows it."""
    guard = Guard(token=TOKEN.encode())
    assert TOKEN not in repr(guard)
    with pytest.raises(Unauthorized) as refused:
        guard.check(RequestHead(path="/", authorization=f"Bearer {TOKEN}x"))
    assert TOKEN not in str(refused.value)


@pytest.mark.parametrize(
    ("host", "answer"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("agent.example", False),
    ],
)
def test_loopback(host: str, answer: bool) -> None:
    """An address that others cannot reach, and all that could be another."""
    assert is_loopback(host) is answer


def _basic(user_and_password: str) -> str:
    return f"Basic {base64.b64encode(user_and_password.encode()).decode()}"


def test_a_reader_may_send_the_token_as_a_password() -> None:
    """So clients that take nothing but a URL can be let in; no other server takes it."""
    sent = RequestHead(path="/", authorization=_basic(f"anyone:{TOKEN}"))
    Guard(token=TOKEN.encode(), takes_passwords=True).check(sent)
    Guard(token=b"x" * 16, other_token=TOKEN.encode(), takes_passwords=True).check(sent)
    with pytest.raises(Unauthorized):
        Guard(token=TOKEN.encode()).check(sent)
    for wrong in (*WRONG, _basic(TOKEN), _basic("anyone:"), _basic(f"anyone:{TOKEN}x"), "Basic ="):
        with pytest.raises(Unauthorized):
            Guard(token=TOKEN.encode(), takes_passwords=True).check(
                RequestHead(path="/", authorization=wrong or "")
            )


def test_a_password_that_a_browser_keeps_is_of_no_use_to_web_pages() -> None:
    """The browser would add it to their requests by itself."""
    guard = Guard(token=TOKEN.encode(), takes_passwords=True)
    for head in ({"origin": "https://evil.example"}, {"fetch_site": "cross-site"}):
        with pytest.raises(Forbidden):
            guard.check(
                RequestHead(
                    path="/", host="10.0.0.1:9977", authorization=_basic(f":{TOKEN}"), **head
                )
            )


READING = "0123456789abcdef-the-one-that-reads"


async def test_a_token_that_reads_changes_nothing(autojump_clock: MockClock) -> None:
    """Every route of the command server, by every method: it gets answers, and 403 for the rest."""
    async with open_simulation(token=TOKEN, read_token=READING) as simulation:
        app = simulation.agent.command
        headers = {"Authorization": f"Bearer {READING}"}
        for path, method in product(_paths(app), METHODS):
            if not is_page(path):
                answer = await app.test_client().open(path, method=method, headers=headers)  # type: ignore[call-arg]  # it has defaults
                is_refused = method not in {"GET", "HEAD"}
                assert (answer.status_code == 403) == is_refused, (path, method)
                assert answer.status_code != 401
                if is_refused and method not in {"TRACE", "OPTIONS"}:
                    assert "this token only reads" in (await answer.get_json())["error"]


def test_what_a_client_may_do_follows_from_its_token() -> None:
    """Where there is none to send, it may command."""
    guard = Guard(token=TOKEN.encode(), reading_token=READING.encode())
    for token, access in ((TOKEN, "command"), (READING, "read")):
        head = RequestHead(path="/x", authorization=f"Bearer {token}")
        guard.check(head)
        assert guard.access(head) == access
    assert Guard(is_local=True).access(RequestHead(path="/x")) == "command"
    with pytest.raises(Unauthorized):
        guard.check(RequestHead(path="/x", authorization=_basic(f"reader:{READING}")))


@pytest.mark.parametrize("path", ["/", "/dashboard/main.js"])
def test_files_of_the_dashboard_need_no_token(path: str) -> None:
    """They hold no data; a link to a view may be anywhere, and a rebound name is still refused."""
    guard = Guard(token=TOKEN.encode(), has_page=True, is_local=True)
    guard.check(RequestHead(path=path, host="localhost:9999", fetch_site="cross-site"))
    for head in (
        {"host": "evil.example"},
        {"host": "localhost:9999", "origin": "http://evil.example"},
    ):
        with pytest.raises(Forbidden):
            guard.check(RequestHead(path=path, **head))
    with pytest.raises(Unauthorized):
        guard.check(RequestHead(path=f"/v1{path}", host="localhost:9999"))
