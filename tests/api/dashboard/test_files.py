"""The dashboard's files as browsers get them."""

from __future__ import annotations

import gzip
import re
from typing import Any

from trio.testing import MockClock

from klineagent.api.dashboard import files
from klineagent.testing.simulation import Simulation


def _client(simulation: Simulation) -> Any:
    return simulation.agent.command.test_client()


async def test_the_page_and_what_it_loads_come_from_here(
    autojump_clock: MockClock, simulation: Simulation
) -> None:
    """With a policy that allows nothing else, and each path in it is answered."""
    response = await _client(simulation).get("/")
    page = (await response.get_data()).decode()
    assert response.status_code == 200
    assert response.content_type == "text/html; charset=utf-8"
    assert response.headers["Content-Security-Policy"] == files.POLICY
    assert "://" not in "".join(re.findall(r'(?:src|href)="/[^"]*"', page))
    for path in re.findall(r'(?:src|href|content)="(/[^"]+)"', page):
        assert (await _client(simulation).get(path)).status_code == 200, path


async def test_a_file_that_is_still_the_same_is_not_sent_again(
    autojump_clock: MockClock, simulation: Simulation
) -> None:
    """Browsers ask each time, so that an upgrade shows at once."""
    first = await _client(simulation).get("/")
    assert first.headers["Cache-Control"] == "no-cache"
    again = await _client(simulation).get("/", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, await again.get_data()) == (304, b"")


async def test_all_files_together_are_a_quarter_of_a_megabyte_on_their_way(
    autojump_clock: MockClock, simulation: Simulation
) -> None:
    """Compressed for those who take it; what arrives is the same."""
    sizes = []
    for name in files.page_files():
        path = f"/dashboard/{name}"
        plain = await _client(simulation).get(path)
        zipped = await _client(simulation).get(path, headers={"Accept-Encoding": "gzip, br"})
        content = await zipped.get_data()
        assert zipped.headers["Content-Encoding"] == "gzip"
        assert zipped.headers["ETag"] != plain.headers["ETag"]
        assert gzip.decompress(content) == await plain.get_data()
        sizes.append(len(content))
    assert sum(sizes) <= 250_000


async def test_a_file_that_does_not_exist_is_404(
    autojump_clock: MockClock, simulation: Simulation
) -> None:
    """Whatever it is called."""
    for name in ("missing.js", "..", "files.py", "page.html/x"):
        assert (await _client(simulation).get(f"/dashboard/{name}")).status_code == 404, name
