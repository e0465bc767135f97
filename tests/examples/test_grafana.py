"""What Grafana's panels ask of an agent and of its database, and what they show of the answer.

Grafana itself is not run: nothing here installs it.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from clickhouse_driver import Client

from klineagent.core.interval import MINUTE_MS
from klineagent.storage.opening import open_store
from klineagent.storage.store import Batch
from tests.examples.conftest import EXAMPLES, PRICES
from tests.klines import OPEN_MS, a_kline
from tests.native.fixture import ModernServer

pytestmark = pytest.mark.slow

GRAFANA = EXAMPLES / "grafana"


def the_panel(dashboard: str, variables: dict[str, str]) -> Any:
    """The only panel of a dashboard, with its variables' values in place."""
    text = (GRAFANA / dashboard).read_text()
    for name, value in variables.items():
        text = text.replace(f"${{{name}}}", value)
    (panel,) = json.loads(text)["panels"]
    assert list(panel["options"]["fields"]) == [*PRICES, "volume"]
    return panel


async def test_a_panel_reads_the_database(modern_server: ModernServer) -> None:
    """By its own port, with the macro for the dashboard's time written out."""
    async with open_store(modern_server.url) as store:
        await store.prepare()
        rows = tuple(a_kline(minute) for minute in range(10))
        await store.insert(Batch("grafana", rows))
        panel = the_panel("candles_of_clickhouse.json", {"symbol": "BTCUSDT", "interval": "1m"})
        (target,) = panel["targets"]
        moments = [f"fromUnixTimestamp64Milli({OPEN_MS + each * MINUTE_MS})" for each in (2, 5)]
        within = "open_time >= {} AND open_time <= {}".format(*moments)
        sql = target["rawSql"].replace("$__timeFilter_ms(open_time)", within)
        assert "$" not in sql
        with Client.from_url(modern_server.url) as client:
            found, columns = client.execute(sql, with_column_types=True)
    assert [name for name, _ in columns] == ["time", *PRICES, "volume"]
    assert [each[1:] for each in found] == [(1.5, 2.25, 1.25, 2.0, 10.001)] * 4


def test_every_panel_names_a_data_source_that_is_provisioned() -> None:
    """By its identifier and its plugin."""
    provisioned = {
        (each["type"], each["uid"])
        for each in yaml.safe_load((GRAFANA / "datasources.yml").read_text())["datasources"]
    }
    used = set()
    for dashboard in GRAFANA.glob("*.json"):
        panel = the_panel(dashboard.name, {})
        for source in (panel["datasource"], *(each["datasource"] for each in panel["targets"])):
            used.add((source["type"], source["uid"]))
    assert used == provisioned
