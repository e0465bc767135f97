"""The dashboard's page at `/` with its files, and the charts library if it is installed."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
from importlib import resources
from pathlib import Path

from attrs import field, frozen
from quart import Response, request
from quart_trio import QuartTrio

from klineagent.api.openapi import operation
from klineagent.core.errors import Forbidden, NoSuchFile

PAGE = "page.html"
PATH = "/dashboard/"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
# No style attributes and no inline script: whatever a symbol is called, it stays text.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",  # the address names what is looked at
}
# TradingView's Lightweight Charts 5.2.0, byte for byte as on npm. Trust is in the digest: the
# package that brings it has one maintainer.
CHARTS_PACKAGE = "lwcharts"
CHARTS_FILE = "vendor/lightweight-charts.standalone.production.js"
CHARTS_SHA256 = "c0992580867c4912cc9385b3c2728315bcc1a76c7f1087dca908430fccdf31d7"
_CHARTS = b'<meta name="charts" content="'
_YEAR_S = 365 * 24 * 3600


@frozen
class PageFile:
    """A file as it is sent."""

    content: bytes
    content_type: str
    etag: str
    cache: str = "no-cache"
    zipped: bytes = field(init=False)
    """The content as all browsers take it, at a third of its size."""

    @zipped.default
    def _zip(self) -> bytes:
        return gzip.compress(self.content, mtime=0)

    @classmethod
    def of(cls, name: str, content: bytes) -> PageFile:
        """Return the file called `name`; browsers ask each time whether it is still the same."""
        etag = hashlib.sha256(content).hexdigest()[:16]
        return cls(content, _TYPES[Path(name).suffix], etag)


def add_page_routes(app: QuartTrio) -> None:
    """Add `GET /`, the page, and `GET /dashboard/NAME`, what it loads."""
    files = page_files()

    @app.get("/")
    @operation("text/html", tag="documents", raises=[Forbidden], is_open=True)
    async def dashboard() -> Response:
        """Return the dashboard, a page that shows what is recorded."""
        return _response(files[PAGE])

    @app.get(f"{PATH}<name>")
    @operation(
        ["text/html", "text/css", "text/javascript", "image/svg+xml"],
        tag="documents",
        raises=[Forbidden, NoSuchFile],
        is_open=True,
    )
    async def dashboard_file(name: str) -> Response:
        """Return a file of the dashboard."""
        if (file := files.get(name)) is None:
            raise NoSuchFile(f"the dashboard has no file {name[:40]!r}")
        return _response(file)


def page_files() -> dict[str, PageFile]:
    """Read the files of the page, and of the charts library; by name."""
    folder = resources.files(__package__) / "page"
    read = {each.name: each.read_bytes() for each in folder.iterdir()}
    found = {
        name: PageFile.of(name, content)
        for name, content in read.items()
        if Path(name).suffix in _TYPES
    }
    if (charts := charts_library()) is not None:
        name = f"charts-{CHARTS_SHA256[:16]}.js"
        found[name] = PageFile(
            charts, _TYPES[".js"], CHARTS_SHA256, f"public, max-age={_YEAR_S}, immutable"
        )
        with_charts = read[PAGE].replace(_CHARTS, _CHARTS + f"{PATH}{name}".encode(), 1)
        found[PAGE] = PageFile.of(PAGE, with_charts)
    return found


def charts_library() -> bytes | None:
    """Return the charts library of the installed package; None without it, or if it is another.

    The package is not imported: that would load pandas.
    """
    spec = importlib.util.find_spec(CHARTS_PACKAGE)
    for place in (spec and spec.submodule_search_locations) or ():
        file = Path(place, CHARTS_FILE)
        if file.is_file():
            content = file.read_bytes()
            return content if hashlib.sha256(content).hexdigest() == CHARTS_SHA256 else None
    return None


def _response(file: PageFile) -> Response:
    zips = request.accept_encodings.quality("gzip") > 0
    etag = f"{file.etag}-gzip" if zips else file.etag
    is_known = etag in request.if_none_match
    content = file.zipped if zips else file.content
    response = Response(b"" if is_known else content, 304 if is_known else 200)
    response.content_type = file.content_type
    response.headers.update(_HEADERS | {"Cache-Control": file.cache, "Vary": "Accept-Encoding"})
    if zips:
        response.content_encoding = "gzip"
    response.set_etag(etag)
    return response
