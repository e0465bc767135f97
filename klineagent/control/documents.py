"""The pages for people: `/docs`, which shows `/openapi.json` and loads nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib import resources

from quart import Response
from quart_trio import QuartTrio

from klineagent.control.guard import Guard
from klineagent.control.openapi import add_openapi, operation

_PAGE = "docs.html"


def add_documents(app: QuartTrio, guard: Guard, *, title: str, description: str) -> None:
    """`GET /openapi.json` and `GET /docs`, about all routes of `app`, also those to come."""
    add_openapi(app, guard, title=title, description=description)
    page = resources.files(__package__).joinpath(_PAGE).read_text(encoding="utf-8")
    headers = {"Content-Security-Policy": _policy(page), "X-Content-Type-Options": "nosniff"}

    @app.get("/docs")
    @operation("text/html", tag="documents")
    async def docs() -> Response:
        """Show all of this to people."""
        return Response(page, headers=headers, content_type="text/html; charset=utf-8")


def _policy(page: str) -> str:
    """Nothing but the page's own script and style, and no address but its own server's."""
    allowed = {kind: _hash(page, kind) for kind in ("script", "style")}
    return (
        f"default-src 'none'; script-src '{allowed['script']}'; style-src '{allowed['style']}';"
        " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _hash(page: str, tag: str) -> str:
    (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(content.encode()).digest())
    return f"sha256-{digest.decode()}"
