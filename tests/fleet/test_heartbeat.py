from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import structlog
import trio
from attrs import define, field
from structlog.testing import capture_logs
from trio.testing import MockClock

from klineagent.core.address import Bind
from klineagent.core.errors import StoreUnavailable
from klineagent.fleet.heartbeat import Agents, beat
from klineagent.storage.store import AgentRow

AGENT = Bind("203.0.113.7", 9999)
EVERY_S = 60.0


@define
class Load:
    """An agent with two symbols at seven intervals."""

    def count(self) -> int:
        """See `fleet.heartbeat.Load`."""
        return 14

    def symbols(self) -> list[str]:
        """See `fleet.heartbeat.Load`."""
        return ["BTCUSDT", "ETHUSDT"]


@define
class FlakyAgents(Agents):
    """Table `agents`, which fails at the beats whose numbers are in `down`."""

    down: set[int]
    rows: list[AgentRow] = field(factory=list)
    beats: list[float] = field(factory=list)

    async def record_agent(self, row: AgentRow) -> None:
        """See `Store`."""
        await trio.lowlevel.checkpoint()
        self.beats.append(trio.current_time())
        if len(self.beats) in self.down:
            raise StoreUnavailable("no database")
        self.rows.append(row)


@pytest.fixture
def events() -> Iterator[list[structlog.typing.EventDict]]:
    """What is logged."""
    with capture_logs() as captured:
        yield captured


async def test_the_row_is_written_now_and_every_minute(autojump_clock: MockClock) -> None:
    """The first row is written at once, the others at their interval."""
    agents = FlakyAgents(down=set())
    started_at = trio.current_time()
    with trio.move_on_after(EVERY_S * 2.5):
        await beat(agents, AGENT, Load(), every_s=EVERY_S)
    assert agents.beats == [started_at + EVERY_S * n for n in range(3)]
    row = agents.rows[0]
    assert (row.ip, row.port) == AGENT
    assert (row.connection_count, row.assigned_symbol_count) == (14, 2)
    assert datetime.now(UTC) - row.last_heartbeat < timedelta(minutes=1)


async def test_an_outage_is_told_from_beginning_to_end(
    autojump_clock: MockClock, events: list[structlog.typing.EventDict]
) -> None:
    """Beats go on through outages, which are logged when they begin and when they end."""
    agents = FlakyAgents(down={2, 3, 5})
    with trio.move_on_after(EVERY_S * 5.5):
        await beat(agents, AGENT, Load(), every_s=EVERY_S)
    assert len(agents.rows) == 3
    assert [event["event"] for event in events] == [
        "heartbeat_failed",
        "heartbeat_failed",
        "heartbeat_recovered",
        "heartbeat_failed",
        "heartbeat_recovered",
    ]
