"""Requests over an agent's own routes, and the comparison of the answers with its store."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from attrs import frozen
from prometheus_client.parser import text_string_to_metric_families

from klineagent.agent import Agent
from klineagent.core.interval import Interval
from klineagent.core.kline import Key
from klineagent.storage.memory.store import MemoryStore

Labels = dict[str, str]


def milliseconds(moment: str) -> int:
    """Read a time in an answer."""
    return round(datetime.fromisoformat(moment).timestamp() * 1000)


@frozen
class Figures:
    """The samples of `/metrics`."""

    samples: dict[str, list[tuple[Labels, float]]]

    def __call__(self, name: str, **labels: str) -> float:
        """Sum up all samples of that name, without its prefix, with these labels."""
        found = self.samples[f"klineagent_{name}"]
        return sum(value for each, value in found if labels.items() <= each.items())


@frozen
class Asker:
    """Requests answers from `agent`, whose rows go to `store`."""

    agent: Agent
    store: MemoryStore

    async def get(self, path: str, **query: object) -> Any:
        """Return an answer of the command server."""
        client = self.agent.command.test_client()
        response = await client.get(f"{path}?{urlencode(query)}" if query else path)
        assert response.status_code == 200, await response.get_data()
        return await response.get_json()

    async def why(self, symbol: str, interval: Interval, open_ms: int) -> Any:
        """Return what `why` says of a candle."""
        return await self.get("/v1/why", symbol=symbol, interval=str(interval), open_time=open_ms)

    async def coverage(self) -> dict[tuple[str, str], Any]:
        """Return the coverage of all series, by symbol and interval; three on a page."""
        coverage: list[Any] = []
        after: str | None = ""
        while after is not None:
            page = await self.get("/v1/coverage", limit=3, after=after)
            coverage += page["series"]
            after = page["next"]
        return {(each["symbol"], each["interval"]): each for each in coverage}

    async def ready(self) -> list[str]:
        """The parts that are not ready."""
        response = await self.agent.status.test_client().get("/ready")
        answer = await response.get_json()
        assert response.status_code == (200 if answer["ready"] else 503)
        assert answer["ready"] == (not answer["reasons"])
        return [reason["part"] for reason in answer["reasons"]]

    async def figures(self) -> Figures:
        """Return all metrics."""
        response = await self.agent.status.test_client().get("/metrics")
        assert response.status_code == 200
        text = await response.get_data(as_text=True)
        samples: dict[str, list[tuple[Labels, float]]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                samples.setdefault(sample.name, []).append((sample.labels, sample.value))
        return Figures(samples)

    async def agrees(self) -> dict[tuple[str, str], Any]:
        """Coverage, once it agrees with the store, with `why` and with the metrics.

        No row may be on its way.
        """
        coverage = await self.coverage()
        assert len(coverage) == self.agent.registry.count()
        for (symbol, name), each in coverage.items():
            self._agrees_with_store(symbol, Interval(name), each)
            for state in ("missing", "absent"):
                for span in each[state]["spans"]:
                    open_ms = milliseconds(span["from"])
                    why = await self.why(symbol, Interval(name), open_ms)
                    assert why["state"] == state
                    assert (why["search"] is not None) == (state == "missing")
                    assert span.get("reason", "") in why["explanation"]
            if each["last_close"] is not None:
                opened_ms = Interval(name).open_at(milliseconds(each["last_close"]))
                why = await self.why(symbol, Interval(name), opened_ms)
                assert (why["state"], why["close_time"]) == ("stored", each["last_close"])
        await self._agrees_with_metrics(coverage)
        return coverage

    def _agrees_with_store(self, symbol: str, interval: Interval, coverage: Any) -> None:
        missing, absent = (
            _opens(coverage[key]["spans"], interval) for key in ("missing", "absent")
        )
        opens = _opens([coverage] if coverage["expected"] else [], interval)
        stored = {open_ms for open_ms in opens if self._has((symbol, interval.value, open_ms))}
        assert stored == set(opens) - set(missing) - set(absent), (symbol, interval)
        assert coverage["expected"] == len(opens)
        assert coverage["stored"] == len(stored)
        assert coverage["missing"]["candles"] == len(missing)
        assert coverage["absent"]["candles"] == len(absent)

    def _has(self, candle: tuple[str, str, int]) -> bool:
        key: Key = (self.agent.pool.venue.name, *candle)
        return key in self.store.klines and self.store.klines[key].is_closed

    async def _agrees_with_metrics(self, coverage: dict[tuple[str, str], Any]) -> None:
        figures = await self.figures()
        spans = [span for each in coverage.values() for span in each["missing"]["spans"]]
        for urgency in ("fresh", "missed", "restart", "history"):
            candles = sum(span["candles"] for span in spans if span["urgency"] == urgency)
            assert figures("candles_missing", urgency=urgency) == candles
        missing = [each for each in coverage.values() if each["missing"]["candles"]]
        assert figures("series_incomplete") == len(missing)
        healed = sum(each["healed"] for each in coverage.values())
        assert figures("candles_healed_total") == healed
        assert figures("candles_found_missing_total") == sum(
            (
                figures("candles_missing"),
                figures("candles_healed_total"),
                figures("candles_forgone_total"),
            )
        )
        assert figures("subscriptions") == len(coverage)
        assert figures("subscriptions", state="active") == sum(
            each["is_active"] for each in coverage.values()
        )
        worst = max(each["lag_seconds"] for each in coverage.values())
        assert max(value for _, value in figures.samples["klineagent_series_lag_seconds"]) == worst
        assert figures("ready") == (not await self.ready())


def _opens(spans: list[Any], interval: Interval) -> list[int]:
    """The candles in spans whose ends are included."""
    opens = []
    for span in spans:
        open_ms, last_ms = milliseconds(span["from"]), milliseconds(span["to"])
        while open_ms <= last_ms:
            opens.append(open_ms)
            open_ms = interval.next_open(open_ms)
    return opens
