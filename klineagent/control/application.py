"""What both servers' apps have in common: JSON, also for errors, and bounded bodies."""

from __future__ import annotations

from typing import Any

import msgspec
from quart import ResponseReturnValue, request
from quart.json.provider import JSONProvider
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from klineagent.errors import RequestError

# All symbols of a venue take 15 kB. The bound also limits how many subscriptions one request can
# ask for at a time: about 10,000 symbols, most of which fail the symbol limit at once.
MAX_BODY_BYTES = 64 * 1024
BODY_WITHIN_S = 10


class _Json(JSONProvider):
    """The list of a thousand connections in a tenth of the standard library's time."""

    def dumps(self, obj: Any, **kwargs: Any) -> str:
        return msgspec.json.encode(obj).decode()

    def loads(self, s: str | bytes, **kwargs: Any) -> Any:
        return msgspec.json.decode(s)


def json_app(name: str) -> QuartTrio:
    """An app without routes that answers every error as `{"error": ...}`.

    A `RequestError` becomes its HTTP status; an error nobody expected is logged with its stack
    and answered by 500 without it.
    """
    # Without a static folder there is no route to its files.
    app = QuartTrio(name, static_folder=None)
    app.config.update(MAX_CONTENT_LENGTH=MAX_BODY_BYTES, BODY_TIMEOUT=BODY_WITHIN_S)
    app.json = _Json(app)

    @app.errorhandler(RequestError)
    async def refuse(error: RequestError) -> ResponseReturnValue:
        return {"error": str(error)}, error.http_status

    @app.errorhandler(HTTPException)
    async def fail(error: HTTPException) -> ResponseReturnValue:
        # The body may not have been read, and hypercorn can stall when it reuses such a connection.
        headers = {"Connection": "close"}
        if isinstance(error, MethodNotAllowed) and error.valid_methods:
            headers["Allow"] = ", ".join(sorted(error.valid_methods))
        reason = f"{error.name}: {request.method} {request.path}"
        return {"error": reason}, error.code or 500, headers

    return app
