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
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import wraps
from importlib import resources
from typing import Any

import msgspec
from attrs import frozen
from msgspec import Struct
from quart import Response
from quart_schema import (
    HttpSecurityScheme,
    Info,
    OpenAPIProvider,
    QuartSchema,
    Tag,
    document_querystring,
    document_request,
    document_response,
    security_scheme,
)
from quart_schema import tag as tagged
from quart_trio import QuartTrio
from werkzeug.routing import Rule

from klineagent import __version__
from klineagent.api.guard import Guard
from klineagent.api.models.contract import Error, OpenApi
from klineagent.core.errors import RequestError, Unauthorized

TAGS = {
    "queries": "The running streams.",
    "commands": "Add and remove streams, and change log levels.",
    "subscriptions": "The desired set of streams, as a whole.",
    "data": "What is stored, what is missing and why, and the exchange's limits.",
    "health": "Whether the agent is alive and ready, and its metrics.",
    "documents": "This API, described for programs and for people.",
}

_BUG = "An internal error; its stack trace is in the log."
_BUSY = "Too many connections, or no answer in time."
_BAD_QUERY = "A parameter is missing, unknown or wrong."
_BAD_BODIES = {
    400: "The body is not JSON or not an object, or a field is missing or wrong.",
    408: "The body was not complete in time.",
    413: "The body is too large.",
}
_BEARER = "bearer"
_REFERENCE = "#/components/schemas/{name}"
_JSON = "application/json"

Content = type[Struct] | str
"""The content of an answer: a model as JSON, or a media type."""
Answer = Struct | tuple[Struct, int] | Response
Handler = Callable[..., Awaitable[Answer]]
View = Callable[..., Awaitable[Response]]


@frozen
class _Documented:
    """A documented answer, passed where quart-schema expects a model."""

    contents: tuple[Content, ...]
    """One of these."""
    description: str


def operation(
    answers: Content | Mapping[int, Content],
    *,
    tag: str,
    body: type[Struct] | None = None,
    query: type[Struct] | None = None,
    raises: Iterable[type[RequestError]] = (),
    is_open: bool = False,
) -> Callable[[Handler], View]:
    """Document a handler, and let it return Structs; see the module's docstring.

    Args:
        answers: the content of its success, or of each status.
        tag: one of `TAGS`.
        body: the model of the request's body.
        query: the model of the query string.
        raises: the errors it raises.
        is_open: whether it answers without the token; this only documents what the guard decides.
    """
    if tag not in TAGS:
        raise ValueError(f"{tag!r} is none of {', '.join(TAGS)}")
    documented = _documented(answers, body=body, query=query, raises=raises)

    def declare(handler: Handler) -> View:
        view = tagged([tag])(_answering(handler))
        for status, answer in sorted(documented.items()):
            # It stores what it is given and hands it to the provider below.
            document_response(answer, status)(view)
        if body is not None:
            document_request(body)(view)
        if query is not None:
            document_querystring(query)(view)
        if is_open:
            security_scheme([])(view)
        return view

    return declare


def _documented(
    answers: Content | Mapping[int, Content],
    *,
    body: type[Struct] | None,
    query: type[Struct] | None,
    raises: Iterable[type[RequestError]],
) -> dict[int, _Documented]:
    """Return the documented answers by status; one status may have several reasons."""
    texts = {500: [_BUG], 503: [_BUSY]}
    for error in raises:
        texts.setdefault(error.http_status, []).append(_description(error))
    if query is not None:
        texts.setdefault(400, []).append(_BAD_QUERY)
    if body is not None:
        for status, text in _BAD_BODIES.items():
            texts.setdefault(status, []).append(text)
    contents: dict[int, tuple[Content, ...]] = dict.fromkeys(texts, (Error,))
    for status, content in (answers if isinstance(answers, Mapping) else {200: answers}).items():
        contents[status] = (content, *contents.get(status, ()))
        texts.setdefault(status, []).insert(0, _description(content))
    return {status: _Documented(each, " ".join(texts[status])) for status, each in contents.items()}


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


class _Provider(OpenAPIProvider):
    """Builds the document; unlike quart-schema's own, it includes models nested in models."""

    def __init__(self, app: QuartTrio, schema: _Schema) -> None:
        super().__init__(app, schema)
        self._guard_errors = schema.errors

    def operation_id(self, method: str, path: str, func: Callable[..., Any]) -> str:
        """Return the handler's name: each handler here serves one method."""
        return func.__name__

    def build_paths(self, rule: Rule) -> tuple[dict[str, Any], dict[str, Any]]:
        """See `OpenAPIProvider`; adds the guard's errors."""
        paths, components = super().build_paths(rule)
        for methods in paths.values():
            for each in methods.values():
                responses = dict(each["responses"])
                for error in () if each.get("security") == [] else self._guard_errors:
                    refused = _Documented((Error,), _description(error))
                    responses[error.http_status], _ = self.build_response_object(refused, None)
                each["responses"] = dict(sorted(responses.items()))
        return paths, components

    def build_querystring_parameters(
        self, model: Any
    ) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """See `OpenAPIProvider`."""
        _, components = _schema_of(model)
        schema = components.pop(model.__name__)
        parameters = [
            {
                "name": name,
                "in": "query",
                "required": name in schema.get("required", ()),
                "description": each.get("description", ""),
                "schema": each,
            }
            for name, each in schema["properties"].items()
        ]
        return parameters, components

    def build_request_body(
        self, model: Any, source: object
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """See `OpenAPIProvider`."""
        schema, components = _schema_of(model)
        body = {"required": True, "content": {_JSON: {"schema": schema}}}
        return {"description": _description(model), **body}, components

    def build_response_object(
        self, model: Any, headers_model: object
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """See `OpenAPIProvider`."""
        answer: _Documented = model
        content: dict[str, list[Any]] = {}
        components: dict[str, Any] = {}
        for each in answer.contents:
            if isinstance(each, str):
                content[each] = [{"type": "string"}]
            else:
                schema, parts = _schema_of(each)
                content.setdefault(_JSON, []).append(schema)
                components |= parts
        media = {
            media_type: {"schema": schemas[0] if len(schemas) == 1 else {"anyOf": schemas}}
            for media_type, schemas in content.items()
        }
        return {"description": answer.description, "content": media}, components


def _schema_of(model: type[Struct]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a reference to the schema of `model`, and all schemas it needs."""
    (reference,), components = msgspec.json.schema_components([model], ref_template=_REFERENCE)
    return reference, dict(components)


class _Schema(QuartSchema):
    """quart-schema's view of an app, and the errors of the app's guard."""

    def __init__(self, guard: Guard, **settings: Any) -> None:
        super().__init__(**settings)
        self.errors = guard.errors


def add_openapi(app: QuartTrio, guard: Guard, *, title: str, description: str) -> None:
    """Add `/openapi.json`, which describes all routes of `app`, including those added later."""
    json = app.json
    needs_token = Unauthorized in guard.errors
    schema = _Schema(
        guard,
        openapi_path=None,
        swagger_ui_path=None,
        redoc_ui_path=None,
        scalar_ui_path=None,
        info=Info(title=title, version=__version__, description=description),
        tags=[Tag(name=name, description=text) for name, text in TAGS.items()],
        security_schemes={_BEARER: HttpSecurityScheme(scheme="bearer")} if needs_token else None,
        security=[{_BEARER: []}] if needs_token else None,
        conversion_preference="msgspec",
        openapi_provider_class=_Provider,
    )
    schema.init_app(app)
    app.json = json  # quart-schema has replaced it

    @app.get("/openapi.json")
    @operation(OpenApi, tag="documents")
    async def openapi() -> Response:
        """Return this API's OpenAPI document."""
        return json_response(schema.openapi_provider.schema())


_PAGE = "docs.html"


def add_documents(app: QuartTrio, guard: Guard, *, title: str, description: str) -> None:
    """Add `GET /openapi.json` and `GET /docs`, which describe all routes of `app`."""
    add_openapi(app, guard, title=title, description=description)
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
