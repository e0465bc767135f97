"""The common base of both servers' apps: a guard, JSON answers and errors, bounded bodies."""

from __future__ import annotations

from typing import Any

import msgspec
from quart import Response, request
from quart.json.provider import JSONProvider
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from klineagent.api.guard import ANYONE, Guard, RequestHead
from klineagent.api.models.contract import Error
from klineagent.api.openapi import json_response
from klineagent.core.errors import Forbidden, ReadError, RequestError, Unauthorized

# All symbols of a venue take 15 kB. The bound also limits how many subscriptions one request can
# ask for: about 10,000 symbols, most of which exceed the symbol limit at once.
MAX_BODY_BYTES = 64 * 1024
BODY_WITHIN_S = 10


class _Json(JSONProvider):
    """JSON by msgspec, which is ten times as fast as the standard library on a long list."""

    def dumps(self, obj: Any, **kwargs: Any) -> str:
        return msgspec.json.encode(obj).decode()

    def loads(self, s: str | bytes, **kwargs: Any) -> Any:
        return msgspec.json.decode(s)


def asked() -> RequestHead:
    """Return the head of the request being answered, for a guard."""
    head = request.headers
    return RequestHead(
        path=request.path,
        method=request.method,
        authorization=head.get("Authorization", ""),
        host=head.get("Host", ""),
        origin=head.get("Origin", ""),
        fetch_site=head.get("Sec-Fetch-Site", ""),
    )


def json_app(name: str, guard: Guard = ANYONE) -> QuartTrio:
    """Make an app without routes that answers requests which pass `guard`.

    Every error is answered as `{"error": ...}`: a `RequestError` with its HTTP status; any other is
    logged with its stack trace and answered by a plain 500.
    """
    # Without a static folder there is no route to its files.
    app = QuartTrio(name, static_folder=None)
    app.config.update(MAX_CONTENT_LENGTH=MAX_BODY_BYTES, BODY_TIMEOUT=BODY_WITHIN_S)
    app.json = _Json(app)

    @app.before_request
    async def check() -> None:
        # Before routing: an unauthorized client does not even learn which paths exist.
        guard.check(asked())

    @app.errorhandler(RequestError)
    async def refuse(error: RequestError) -> Response:
        response = json_response(Error(str(error)), error.http_status)
        if isinstance(error, Unauthorized):
            response.headers["WWW-Authenticate"] = 'Bearer realm="klineagent"'
        if isinstance(error, Unauthorized | Forbidden):
            response.headers["Connection"] = "close"
        if isinstance(error, ReadError) and error.retry_after_s is not None:
            response.headers["Retry-After"] = str(error.retry_after_s)
        return response

    @app.errorhandler(HTTPException)
    async def fail(error: HTTPException) -> Response:
        reason = f"{error.name}: {request.method} {request.path}"
        response = json_response(Error(reason), error.code or 500)
        # The body may not have been read, and hypercorn can stall when it reuses such a connection.
        response.headers["Connection"] = "close"
        if isinstance(error, MethodNotAllowed) and error.valid_methods:
            response.headers["Allow"] = ", ".join(sorted(error.valid_methods))
        return response

    return app
