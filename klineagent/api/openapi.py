"""OpenAPI documents of an app: `/openapi.json`, and `/docs` as a page.

How to add an endpoint:

1. Its request and answer are Structs in a module of `models/`.
2. A function `add_THING_routes(app, ...)` in `routes/THING.py` declares it; `command_app` or
   `status_app` calls that function.
3. Each handler declares its answers; `@app.get` stands above `@operation`:

    def add_limits_routes(app: QuartTrio, budgets: Budgets) -> None:
        @app.get("/v1/limits")
        @operation(Limits, tag="data", query=LimitsQuery, raises=[NotConfirmed])
        async def limits() -> Limits:
            (docstring: its first line becomes the summary, what follows the description)
            asked = read_query(LimitsQuery)  # requests.py; a body: await read_body(LimitsBody)
            return Limits(...)  # or with another status than 200: return Limits(...), 503

A handler reports failure by raising a `RequestError` (core/errors.py), answered as
`{"error": ...}` with its status; `raises` lists the possible ones. The statuses that every endpoint
has (500, 503; with a token 401), and those of a query or a body (400, 408, 413), are added here.
`tag` is one of `TAGS`. The handler's name is the operation's id, unique in its app.

A mapping declares answers by status, `@operation({200: Ready, 503: Ready}, ...)`. A media type
declares an answer that is no JSON, `@operation("text/plain", ...)`; the handler then returns a
`quart.Response`.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import wraps
from importlib import resources
from inspect import getdoc
from itertools import groupby
from operator import attrgetter
from typing import Any

import msgspec
from attrs import field, frozen
from msgspec import Struct
from quart import Response
from quart_trio import QuartTrio

from klineagent import __version__
from klineagent.api.guard import Guard
from klineagent.api.models.contract import Error, OpenApi
from klineagent.core.errors import RequestError, Unauthorized

TAGS = {
    "queries": "The running streams.",
    "commands": "Add and remove streams, and change log levels.",
    "subscriptions": "The desired set of streams, as a whole.",
    "data": "What is stored, what is missing and why, and the exchange's limits.",
    "jobs": "Imports of the past beside recording.",
    "health": "Whether the agent is alive and ready, and its metrics.",
    "documents": "This API, described for programs and for people.",
}

_BEARER = "bearer"
_REFERENCE = "#/components/schemas/{name}"
_JSON = "application/json"
_OPERATION = "_operation"
"""The attribute of a view that holds its `_Operation`."""
_STATUS = attrgetter("status")

Content = type[Struct] | str
"""The content of an answer: a model as JSON, or a media type."""
Answer = Struct | tuple[Struct, int] | Response
Handler = Callable[..., Awaitable[Answer]]
View = Callable[..., Awaitable[Response]]


@frozen
class _Documented:
    """An answer as the document describes it; those of one status are joined."""

    status: int
    content: Content
    description: str


_BAD_QUERY = (_Documented(400, Error, "A parameter is missing, unknown or wrong."),)
_BAD_BODY = (
    _Documented(
        400, Error, "The body is not JSON or not an object, or a field is missing or wrong."
    ),
    _Documented(408, Error, "The body was not complete in time."),
    _Documented(413, Error, "The body is too large."),
)


@frozen(kw_only=True)
class _Operation:
    """What `operation` was given about `handler`."""

    handler: Handler
    tag: str
    answers: list[_Documented]
    body: type[Struct] | None
    query: type[Struct] | None
    is_open: bool


def operation(
    answers: Content | Sequence[str] | Mapping[int, Content],
    *,
    tag: str,
    body: type[Struct] | None = None,
    query: type[Struct] | None = None,
    raises: Iterable[type[RequestError]] = (),
    is_open: bool = False,
) -> Callable[[Handler], View]:
    """Document a handler, and let it return Structs; see the module's docstring.

    Args:
        answers: the content of its success, or of each status; media types if there are several.
        tag: one of `TAGS`.
        body: the model of the request's body.
        query: the model of the query string.
        raises: the errors it raises.
        is_open: whether it answers without the token; this only documents what the guard decides.
    """
    if tag not in TAGS:
        raise ValueError(f"{tag!r} is none of {', '.join(TAGS)}")
    documented = [
        *(_Documented(status, each, _description(each)) for status, each in _given(answers)),
        _Documented(500, Error, "An internal error; its stack trace is in the log."),
        _Documented(503, Error, "Too many connections, or no answer in time."),
        *map(_refusal, raises),
        *(_BAD_QUERY if query is not None else ()),
        *(_BAD_BODY if body is not None else ()),
    ]

    def declare(handler: Handler) -> View:
        view = _answering(handler)
        declared = _Operation(
            handler=handler, tag=tag, answers=documented, body=body, query=query, is_open=is_open
        )
        setattr(view, _OPERATION, declared)
        return view

    return declare


def _given(
    answers: Content | Sequence[str] | Mapping[int, Content],
) -> Iterable[tuple[int, Content]]:
    if isinstance(answers, Mapping):
        return answers.items()
    if isinstance(answers, str | type):
        return [(200, answers)]
    return [(200, each) for each in answers]


def _refusal(error: type[RequestError]) -> _Documented:
    return _Documented(error.http_status, Error, _description(error))


def _answering(handler: Handler) -> View:
    @wraps(handler)
    async def view(*args: Any, **kwargs: Any) -> Response:
        match await handler(*args, **kwargs):
            case Response() as response:
                return response
            case (answer, int(status)):
                return json_response(answer, status)
            case answer:
                return json_response(answer)

    return view


def json_response(answer: object, status: int = 200) -> Response:
    """Make a response with `answer` as JSON."""
    return Response(msgspec.json.encode(answer), status, content_type=_JSON)


def _description(content: Content | type[RequestError]) -> str:
    return "As text." if isinstance(content, str) else (content.__doc__ or "").partition("\n")[0]


@frozen
class _Document:
    """Builds the OpenAPI document of `app`."""

    app: QuartTrio
    guard: Guard
    schemas: dict[str, Any] = field(factory=dict, init=False)
    """The models that what is built so far refers to, and those in them."""

    def build(self, info: Mapping[str, str]) -> dict[str, Any]:
        """Return the document."""
        paths: dict[str, dict[str, Any]] = {}
        for rule in self.app.url_map.iter_rules():
            if declared := getattr(self.app.view_functions[rule.endpoint], _OPERATION, None):
                path = paths.setdefault(re.sub(r"<(?:.*?:)?(.*?)>", r"{\1}", rule.rule), {})
                for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
                    path[method.lower()] = self._operation(declared, rule.arguments)
        document: dict[str, Any] = {
            "openapi": "3.1.0",
            "info": info,
            "paths": paths,
            "components": {"schemas": self.schemas},
            "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        }
        if Unauthorized in self.guard.errors:
            scheme = {"type": "http", "scheme": "bearer"}
            document["components"]["securitySchemes"] = {_BEARER: scheme}
            document["security"] = [{_BEARER: []}]
        return document

    def _operation(self, declared: _Operation, arguments: Iterable[str]) -> dict[str, Any]:
        summary, _, description = (getdoc(declared.handler) or "").partition("\n")
        refusals = () if declared.is_open else map(_refusal, self.guard.errors)
        described: dict[str, Any] = {
            "operationId": declared.handler.__name__,
            "tags": [declared.tag],
            "summary": summary,
            "description": description,
            "parameters": [
                {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
                for name in sorted(arguments)
            ],
            "responses": self._responses([*declared.answers, *refusals]),
        }
        if declared.query is not None:
            described["parameters"] += self._query_parameters(declared.query)
        if declared.body is not None:
            described["requestBody"] = {
                "required": True,
                "description": _description(declared.body),
                "content": self._content([declared.body]),
            }
        if declared.is_open:
            described["security"] = []
        return described

    def _responses(self, answers: Iterable[_Documented]) -> dict[int, Any]:
        by_status = groupby(sorted(answers, key=_STATUS), _STATUS)
        return {status: self._response(list(alike)) for status, alike in by_status}

    def _response(self, answers: Iterable[_Documented]) -> dict[str, Any]:
        description = " ".join(dict.fromkeys(each.description for each in answers))
        content = self._content(each.content for each in answers)
        return {"description": description, "content": content}

    def _content(self, contents: Iterable[Content]) -> dict[str, Any]:
        """Describe content that is one of `contents`, by media type."""
        media: dict[str, list[Any]] = {}
        for each in dict.fromkeys(contents):
            if isinstance(each, str):
                media[each] = [{"type": "string"}]
            else:
                media.setdefault(_JSON, []).append(self._reference(each))
        return {
            name: {"schema": schemas[0] if len(schemas) == 1 else {"anyOf": schemas}}
            for name, schemas in media.items()
        }

    def _query_parameters(self, model: type[Struct]) -> list[dict[str, Any]]:
        self._reference(model)
        schema = self.schemas.pop(model.__name__)
        return [
            {
                "name": name,
                "in": "query",
                "required": name in schema.get("required", ()),
                "description": each.get("description", ""),
                "schema": each,
            }
            for name, each in schema["properties"].items()
        ]

    def _reference(self, model: type[Struct]) -> dict[str, Any]:
        """Return a reference to the schema of `model`, and keep all schemas it needs."""
        (reference,), schemas = msgspec.json.schema_components([model], ref_template=_REFERENCE)
        self.schemas.update(schemas)
        return reference


_PAGE = "docs.html"


def add_documents(app: QuartTrio, guard: Guard, *, title: str, description: str) -> None:
    """Add `/openapi.json` and `/docs`, which describe all routes of `app`, even later ones."""
    info = {"title": title, "version": __version__, "description": description}

    @app.get("/openapi.json")
    @operation(OpenApi, tag="documents")
    async def openapi() -> Response:
        """Return this API's OpenAPI document."""
        return json_response(_Document(app, guard).build(info))

    page = resources.files(__package__).joinpath(_PAGE).read_text(encoding="utf-8")
    headers = {"Content-Security-Policy": _policy(page), "X-Content-Type-Options": "nosniff"}

    @app.get("/docs")
    @operation("text/html", tag="documents")
    async def docs() -> Response:
        """Return this API's documentation as a page."""
        return Response(page, headers=headers, content_type="text/html; charset=utf-8")


def _policy(page: str) -> str:
    """Make a content security policy that allows only the page's own script, style and server."""
    allowed = {kind: _hash(page, kind) for kind in ("script", "style")}
    return (
        f"default-src 'none'; script-src '{allowed['script']}'; style-src '{allowed['style']}';"
        " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _hash(page: str, tag: str) -> str:
    (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(content.encode()).digest())
    return f"sha256-{digest.decode()}"
