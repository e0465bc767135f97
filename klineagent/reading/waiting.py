"""The rows that the writer has, and the store does not have yet."""

from __future__ import annotations

from collections.abc import Collection

import trio

from klineagent.core.kline import Kline, SeriesName
from klineagent.storage.writing.writer import Writer

# Rows on their way between tasks, or to the spool, are in one of the writer's hands a moment later.
IN_HAND_WITHIN_S = 1.0
LOOK_EVERY_S = 0.05


async def waiting_rows(
    writer: Writer, names: Collection[SeriesName]
) -> dict[SeriesName, list[Kline]]:
    """Return the closed rows of some series that are not in the store yet, as far as in memory.

    Read the store afterwards, not before: what is stored meanwhile is in one of both.
    """
    rows: dict[SeriesName, list[Kline]] = {name: [] for name in names}
    with trio.move_on_after(IN_HAND_WITHIN_S):
        while (at_risk := writer.at_risk()) is None:  # noqa: ASYNC110 - it has no event
            await trio.sleep(LOOK_EVERY_S)
        for row in at_risk:
            if (some := rows.get(row[:3])) is not None:
                some.append(row)
    return rows
