"""Tables of results for the terminal."""

from __future__ import annotations

import io

from msgspec.structs import replace
from rich.console import Console
from rich.table import Table

from klineagent.bench.figures import Spread
from klineagent.bench.outcome import Bar
from klineagent.bench.report import answers_table, bars_table
from tests.bench.operation.test_operation import ANSWERS


def lines_of(table: Table) -> list[str]:
    """The text of a table."""
    out = io.StringIO()
    Console(file=out, width=200).print(table)
    return out.getvalue().splitlines()


def test_a_bar_is_met_or_missed_or_not_measured() -> None:
    """A client that is not installed has not failed."""
    met, missed, unknown = (Bar(what="it", seen=seen, least=2) for seen in (3, 1, None))
    _, *shown = [
        line.split() for line in lines_of(bars_table([met, missed, unknown])) if "it" in line
    ]
    assert not {"missed", "measured"} & set(lines_of(bars_table([met]))[-2].split())
    assert shown[0][-1] == "missed"
    assert shown[1][-2:] == ["not", "measured"]


def test_the_dearest_requests_come_first() -> None:
    """Then the sum, and the failed ones."""
    answers = replace(
        ANSWERS,
        kinds={"/status": Spread(9, 1.0, 2.0, 3.0), "/v1/why": Spread(3, 5.0, 9.0, 9.5)},
        errors={"/status: 500": 2},
    )
    shown = "\n".join(lines_of(answers_table(answers)))
    order = [
        "/v1/why",
        "/status",
        "all of them",
        "failed: /status: 500",
        "load generator: 10 % of a core",
    ]
    assert sorted(order, key=shown.index) == order
