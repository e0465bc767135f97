"""The dashboard, the alerts and their pages name what exists."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import promql_parser
import pytest
import trio
import yaml
from trio.testing import MockClock

from klineagent.storage.memory.disk import MemoryDisk
from klineagent.testing.simulation import open_simulation
from tests.places import ROOT
from tests.simulations.asking import Asker, Labels

MONITORING = ROOT / "examples" / "monitoring"
# Prometheus adds these itself.
ADDED_METRICS = {"up"}
ADDED_LABELS = {"job", "instance"}


def _alerts() -> list[Any]:
    document = yaml.safe_load((MONITORING / "alerts.yml").read_text())
    return [rule for group in document["groups"] for rule in group["rules"]]


def _panels() -> list[Any]:
    return [
        panel
        for panel in json.loads((MONITORING / "dashboard.json").read_text())["panels"]
        if panel["type"] != "row"
    ]


def _expressions() -> Iterator[str]:
    yield from (rule["expr"] for rule in _alerts())
    for panel in _panels():
        for target in panel["targets"]:
            yield target["expr"].replace("$__rate_interval", "5m")


def _selectors(expression: str) -> list[promql_parser.VectorSelector]:
    """All metric names in `expression`."""
    found: list[promql_parser.VectorSelector] = []

    def visit(part: object) -> bool:
        if isinstance(part, promql_parser.MatrixSelector):
            part = part.vector_selector
        if isinstance(part, promql_parser.VectorSelector):
            found.append(part)
        return True

    promql_parser.walk(promql_parser.parse(expression), visit)
    return found


@pytest.fixture
async def samples() -> dict[str, list[tuple[Labels, float]]]:
    """All metrics of an agent with a spool; tests must request `autojump_clock`."""
    async with open_simulation(disk=MemoryDisk(), history=0) as simulation:
        await trio.sleep(120)
        return (await Asker(simulation.agent, simulation.store).figures()).samples


async def test_every_metric_that_is_named_exists(
    autojump_clock: MockClock, samples: dict[str, list[tuple[Labels, float]]]
) -> None:
    """In dashboard and alerts, with the labels they use."""
    for expression in _expressions():
        selectors = _selectors(expression)
        assert selectors, expression
        for selector in selectors:
            if selector.name in ADDED_METRICS:
                continue
            assert selector.name in samples, expression
            documented = [labels for labels, _ in samples[selector.name]]
            for matcher in selector.matchers.matchers:
                if matcher.name in ADDED_LABELS:
                    continue
                values = {labels[matcher.name] for labels in documented}
                for value in matcher.value.split("|"):
                    assert value in values, expression


async def test_every_metric_is_documented_and_no_other(
    autojump_clock: MockClock, samples: dict[str, list[tuple[Labels, float]]]
) -> None:
    """With its labels, in the table of docs/monitoring.md."""
    rows = re.findall(r"^\| (`.+?) \|", (ROOT / "docs" / "monitoring.md").read_text(), re.MULTILINE)
    documented = {
        name: set(filter(None, labels.split(",")))
        for row in rows
        for name, labels in re.findall(r"`([a-z_]+)(?:\{([a-z_,]+)\})?`", row)
    }
    exist: dict[str, set[str]] = {}
    for name, found in samples.items():
        if name.startswith("klineagent_"):
            base = re.sub(r"_(bucket|count|sum)$", "", name.removeprefix("klineagent_"))
            exist[base] = {label for labels, _ in found for label in labels} - {"le"}
    exist["build_info"] = set()
    assert documented == exist


def test_every_alert_has_its_paragraph() -> None:
    """And every paragraph its alert: the meaning, what to look at, what to do."""
    page = (ROOT / "docs" / "runbook.md").read_text()
    paragraphs = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL))
    names = [rule["alert"] for rule in _alerts()]
    assert list(paragraphs) == names
    for name, paragraph in paragraphs.items():
        parts = re.findall(r"^\*\*(.+?):\*\* \S", paragraph, re.MULTILINE)
        assert parts == ["Meaning", "Look at", "Do"], name
        for other in re.findall(r"\bKlineagent\w+", paragraph):
            assert other in names, name


def test_every_alert_has_severity_and_agent() -> None:
    """It has a severity, and names the agent."""
    for rule in _alerts():
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert "$labels.instance" in rule["annotations"]["summary"]


async def test_metrics_of_the_runbook_exist(
    autojump_clock: MockClock, samples: dict[str, list[tuple[Labels, float]]]
) -> None:
    """All metrics named in it exist."""
    page = (ROOT / "docs" / "runbook.md").read_text()
    for name in re.findall(r"klineagent_\w+", page):
        assert name in samples or f"{name}_bucket" in samples, name


@pytest.mark.deployment
def test_panels_do_not_overlap() -> None:
    """None overlaps another."""
    taken: set[tuple[int, int]] = set()
    for panel in _panels():
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not taken & cells, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
