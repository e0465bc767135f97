"""The public archive: its listing and its files, over HTTP or in a folder that mirrors it."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol, TypeVar
from urllib.parse import quote, urlsplit

import httpx2
import trio
from attrs import define, field

from klineagent import __version__
from klineagent.core.errors import BadFrame, ConfigError, ExchangeUnreachable, reason_of
from klineagent.exchange.network import Network
from klineagent.history.archive.listing import MOST_BYTES, Entry, ListingPage, read_page
from klineagent.history.archive.zips import FileDamaged

PUBLIC = "https://data.binance.vision"
"""The exchange's own archive."""
_PUBLIC_LISTING = "https://s3-ap-northeast-1.amazonaws.com/data.binance.vision"
AT_ONCE = 4
"""Downloads at a time; others see their connections refused with ten."""
# A million objects, in pages of a thousand.
MOST_PAGES = 1_000
_SILENCE_S = 30.0
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0
GIVE_UP_AFTER_S = 600.0
"""How long the archive may answer nothing at all."""
_GIVE_UP_AT_FIRST_S = 15.0
_BUSY = frozenset({403, 408, 429, 500, 502, 503, 504})
_USER_AGENT = f"klineagent/{__version__} (+https://pypi.org/project/klineagent)"

_Bytes = TypeVar("_Bytes", bytes, bytearray)


class Archive(Protocol):
    """A place with the layout of the public archive."""

    @property
    def label(self) -> str:
        """Where it is."""

    async def entries(self, folder: str, *, after: str = "", until: str = "") -> list[Entry]:
        """List the objects in `folder` with keys after `after`; no page begins after `until`.

        Raises:
            ExchangeUnreachable: it does not answer.
        """

    async def folders(self, folder: str) -> list[str]:
        """List the names of the folders in `folder`; errors as of `entries`."""

    async def content(self, path: str, *, most_bytes: int) -> bytes | None:
        """Return the content of an object; None if there is none.

        Raises:
            ExchangeUnreachable: the archive does not answer.
            FileDamaged: it is longer than `most_bytes`.
        """


@define
class FolderArchive:
    """A folder that mirrors the archive: the one with `data` in it."""

    _folder: Path

    @property
    def label(self) -> str:
        """See `Archive`."""
        return str(self._folder)

    async def entries(self, folder: str, *, after: str = "", until: str = "") -> list[Entry]:
        """See `Archive`."""
        return await trio.to_thread.run_sync(self._entries, folder, after)

    def _entries(self, folder: str, after: str) -> list[Entry]:
        found: list[Entry] = []
        try:
            paths = sorted((self._folder / folder).iterdir())
            for path in paths:
                key = f"{folder}{path.name}"
                if key > after and path.is_file():
                    status = path.stat()
                    etag = f"{status.st_size:x}-{status.st_mtime_ns:x}"
                    found.append(Entry(key, status.st_size, etag, status.st_mtime_ns // 1_000_000))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise ExchangeUnreachable(f"cannot read {self._folder / folder}: {error}") from error
        return found

    async def folders(self, folder: str) -> list[str]:
        """See `Archive`."""

        def names() -> list[str]:
            try:
                return sorted(each.name for each in (self._folder / folder).iterdir())
            except FileNotFoundError:
                return []
            except OSError as error:
                raise ExchangeUnreachable(f"cannot read {error.filename}: {error}") from error

        return await trio.to_thread.run_sync(names)

    async def content(self, path: str, *, most_bytes: int) -> bytes | None:
        """See `Archive`."""

        def read() -> bytes | None:
            try:
                with (self._folder / path).open("rb") as file:
                    content = file.read(most_bytes + 1)
            except FileNotFoundError:
                return None
            except OSError as error:
                raise ExchangeUnreachable(f"cannot read {error.filename}: {error}") from error
            return _bounded(content, most_bytes)

        return await trio.to_thread.run_sync(read)


@define(kw_only=True)
class HttpArchive:
    """The archive over HTTP: listings from its object storage, files from the address in front.

    Where it is busy all requests pause together, from a second to a minute. One that has answered
    before is waited for; one that never did is soon given up.
    """

    _http: httpx2.AsyncClient
    _files: str
    _listing: str
    _waits: Callable[[str], None] = field(default=lambda _: None)
    """Takes the reason why nothing is downloaded at the moment; empty once downloads go on."""
    _paused_until: float = field(default=-math.inf, init=False)
    _pause_s: float = field(default=0.0, init=False)
    _answered_at: float | None = field(default=None, init=False)
    _began_at: float = field(factory=trio.current_time, init=False)
    _turns: trio.CapacityLimiter = field(factory=lambda: trio.CapacityLimiter(AT_ONCE), init=False)

    @property
    def label(self) -> str:
        """See `Archive`."""
        return self._files

    async def entries(self, folder: str, *, after: str = "", until: str = "") -> list[Entry]:
        """See `Archive`."""
        pages = await self._pages(folder, after, until)
        return [each for page in pages for each in page.entries]

    async def folders(self, folder: str) -> list[str]:
        """See `Archive`."""
        pages = await self._pages(folder, "", "")
        return [each.removeprefix(folder).rstrip("/") for page in pages for each in page.folders]

    async def _pages(self, folder: str, marker: str, until: str) -> list[ListingPage]:
        pages: list[ListingPage] = []
        while not pages or marker:
            query = {"delimiter": "/", "prefix": folder, **({"marker": marker} if marker else {})}
            try:
                page = read_page(await self._get(self._listing, query, MOST_BYTES) or b"")
            except (BadFrame, FileDamaged) as error:
                raise ExchangeUnreachable(f"{self._listing}: {error}") from error
            if page.marker and page.marker <= marker:
                raise ExchangeUnreachable(f"{self._listing}: its listing goes in circles")
            pages.append(page)
            if len(pages) > MOST_PAGES:
                raise ExchangeUnreachable(f"{self._listing}: its listing has no end")
            marker = page.marker if not until or page.marker < until else ""
        return pages

    async def content(self, path: str, *, most_bytes: int) -> bytes | None:
        """See `Archive`."""
        return await self._get(f"{self._files}/{quote(path)}", {}, most_bytes)

    async def _get(self, url: str, query: dict[str, str], most_bytes: int) -> bytes | None:
        """Return what is at `url`, however long the archive is busy; None for 404.

        Raises:
            ExchangeUnreachable: it does not answer, or not with what was asked for.
            FileDamaged: it is longer than `most_bytes`.
        """
        async with self._turns:
            while True:
                await trio.sleep_until(self._paused_until)
                reason, named_s = "", 0.0
                asked_at = trio.current_time()
                try:
                    async with self._http.stream("GET", url, params=query) as response:
                        if response.status_code == httpx2.codes.NOT_FOUND:
                            self._well()
                            return None
                        if response.is_success:
                            body = await _read(response, most_bytes)
                            self._well()
                            return body
                        reason = f"HTTP {response.status_code}"
                        named = response.headers.get("Retry-After", "")
                        named_s = float(named) if named.isdecimal() else 0.0
                        if response.status_code not in _BUSY:
                            raise ExchangeUnreachable(f"{url}: {reason}")
                except httpx2.HTTPError as error:
                    reason = reason_of(error)
                self._pause(f"{urlsplit(url).netloc}: {reason}", named_s, asked_at)

    def _well(self) -> None:
        if self._pause_s:
            self._waits("")
        self._pause_s, self._answered_at = 0.0, trio.current_time()

    def _pause(self, reason: str, named_s: float, asked_at: float) -> None:
        """Let all requests pause; those that were under way together count as one failure.

        Raises:
            ExchangeUnreachable: it has not answered for too long.
        """
        now = trio.current_time()
        since = self._began_at if self._answered_at is None else self._answered_at
        patience_s = _GIVE_UP_AT_FIRST_S if self._answered_at is None else GIVE_UP_AFTER_S
        if now - since > patience_s:
            raise ExchangeUnreachable(
                f"the archive does not answer ({reason}); run the command again to go on"
            )
        if asked_at >= self._paused_until:
            self._pause_s = min(max(_FIRST_PAUSE_S, 2 * self._pause_s), _LONGEST_PAUSE_S)
            self._paused_until = now + max(self._pause_s, min(named_s, GIVE_UP_AFTER_S))
            self._waits(reason)


async def _read(response: httpx2.Response, most_bytes: int) -> bytes:
    body = bytearray()
    async for part in response.aiter_raw():
        body += part
        _bounded(body, most_bytes)
    return bytes(body)


def _bounded(content: _Bytes, most_bytes: int) -> _Bytes:
    if len(content) > most_bytes:
        raise FileDamaged(f"it is longer than {most_bytes} bytes")
    return content


@asynccontextmanager
async def open_archive(
    place: str, network: Network, *, waits: Callable[[str], None] = lambda _: None
) -> AsyncIterator[Archive]:
    """Open the archive at a URL or in a folder.

    Raises:
        ConfigError: it is no URL of HTTP, there is no such folder, or no `data` in it.
    """
    if not place.startswith(("http://", "https://")):
        path = place.removeprefix("file://")
        if "://" in path:
            raise ConfigError(f"--archive-url {place}: it is neither an HTTP URL nor a folder")
        folder = Path(path).expanduser()  # noqa: ASYNC240 - once
        if not (folder / "data").is_dir():
            raise ConfigError(f"--archive-url {place}: the folder has no data/ as the archive has")
        yield FolderArchive(folder)
        return
    files = place.rstrip("/")
    listing = _PUBLIC_LISTING if files == PUBLIC else f"{files}/"
    async with httpx2.AsyncClient(
        transport=network.http_transport(),
        timeout=httpx2.Timeout(_SILENCE_S),
        headers={"User-Agent": _USER_AGENT, "Accept-Encoding": "identity"},
    ) as http:
        yield HttpArchive(http=http, files=files, listing=listing, waits=waits)
