"""Snapshots over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from attrs import frozen
from quart_trio import QuartTrio

from klineagent.api import snapshots as module
from klineagent.api.app import json_app
from klineagent.api.snapshots import add_snapshot_routes
from klineagent.series.venues import Venues
from klineagent.storage import snapshots as kept
from klineagent.storage.memory.store import MemoryStore
from klineagent.storage.opening import open_store
from klineagent.storage.store import Store
from klineagent.storage.writing.writer import open_writer
from tests.klines import OPEN_MS, a_kline

NOW_MS = OPEN_MS


@frozen
class _Clock:
    def now_ms(self) -> int:
        return NOW_MS


@asynccontextmanager
async def _serving(store: Store) -> AsyncIterator[tuple[QuartTrio, Any]]:
    """The routes alone, in front of a writer that stores what waits once in ten minutes."""
    context = SimpleNamespace(time=_Clock())
    venues = SimpleNamespace(main=SimpleNamespace(context=context))
    async with open_writer(
        store, flush_interval_s=600, batch_rows=100, capacity_rows=1000, drain_timeout_s=3
    ) as writer:
        app = json_app("test")
        add_snapshot_routes(app, venues=cast("Venues", venues), writer=writer)
        yield app, writer


async def test_a_snapshot_has_what_was_received(tmp_path: Path) -> None:
    """It is flushed first; the answer says where the files are, and as of when."""
    pytest.importorskip("chdb")
    async with (
        open_store(f"chdb://{tmp_path}/klines") as store,
        _serving(store) as (app, writer),
    ):
        await writer.klines.send([a_kline()])
        client = app.test_client()
        response = await client.post("/v1/snapshots")
        assert response.status_code == 200
        taken = await response.get_json()
        folder = Path(taken["folder"])
        assert folder.parent == tmp_path / "klines" / "shadow"
        assert _parts(taken, "klines"), "the row was stored before"
        assert taken["database"] == "market"
        assert "2026-01-31T23:59:50" < taken["as_of"] <= "2026-02-01T00:00:00+00:00"

        path = f"/v1/snapshots/{taken['name']}"
        assert (await client.delete(path)).status_code == 200
        assert not _exists(folder)
        gone = await client.delete(path)
        assert gone.status_code == 404
        assert "there is no snapshot" in (await gone.get_json())["error"]


def _exists(folder: Path) -> bool:
    return folder.exists()


def _parts(taken: Any, table: str) -> list[Path]:
    [found] = [each for each in taken["tables"] if each["name"] == table]
    return list((Path(taken["folder"]) / found["parts"]).iterdir())


async def test_too_many_snapshots_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For now: those there are will go."""
    pytest.importorskip("chdb")
    monkeypatch.setattr(kept, "MOST_SNAPSHOTS", 0)
    async with open_store(f"chdb://{tmp_path}/klines") as store, _serving(store) as (app, _):
        refused = await app.test_client().post("/v1/snapshots")
        assert refused.status_code == 503
        assert "0 snapshots are kept already" in (await refused.get_json())["error"]


async def test_a_slow_database_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The snapshot then has what is stored; until when, is not known."""
    pytest.importorskip("chdb")
    monkeypatch.setattr(module, "FLUSH_WITHIN_S", 0)
    async with (
        open_store(f"chdb://{tmp_path}/klines") as store,
        _serving(store) as (app, writer),
    ):
        await writer.klines.send([a_kline()])
        response = await app.test_client().post("/v1/snapshots")
        assert response.status_code == 200
        assert (await response.get_json())["as_of"] is None


async def test_other_stores_are_read_directly() -> None:
    """The refusal says where."""
    async with _serving(MemoryStore()) as (app, _):
        client = app.test_client()
        for refused in (await client.post("/v1/snapshots"), await client.delete("/v1/snapshots/x")):
            assert refused.status_code == 409
            error = (await refused.get_json())["error"]
            assert "this agent records into memory:: read that directly" in error
