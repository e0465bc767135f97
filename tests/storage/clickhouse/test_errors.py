from __future__ import annotations

import pytest

from klineagent.core.errors import (
    RowsRefused,
    StoreAnswerUnknown,
    StoreError,
    StoreMisconfigured,
    StoreOverloaded,
    StoreUnavailable,
)
from klineagent.storage.clickhouse.errors import classify, error_of


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        (210, StoreUnavailable),
        (159, StoreUnavailable),
        (216, StoreUnavailable),
        (319, StoreUnavailable),
        (999, StoreUnavailable),
        (123_456, StoreAnswerUnknown),
        (202, StoreOverloaded),
        (241, StoreOverloaded),
        (243, StoreOverloaded),
        (252, StoreOverloaded),
        (60, StoreMisconfigured),
        (81, StoreMisconfigured),
        (164, StoreMisconfigured),
        (516, StoreMisconfigured),
        (497, StoreMisconfigured),
        (33, RowsRefused),
        (53, RowsRefused),
        (469, RowsRefused),
    ],
)
def test_each_code_has_its_meaning(code: int, verdict: type[StoreError]) -> None:
    """Codes mean what to do next; unknown ones mean to try again."""
    assert classify(code, "") is verdict


def test_too_many_partitions_shares_a_code_with_too_many_parts() -> None:
    """Rows of too many months are refused for good, though their code says to wait."""
    message = "Too many partitions for single INSERT block (more than 100)."
    assert classify(252, message) is RowsRefused


def test_refusal_is_one_line_for_a_user() -> None:
    """The reason is the server's first line, with its code and the store it came from."""
    error = error_of("clickhouse://h:9000/market", 241, "DB::Exception: Memory limit\nStack: ...")
    assert type(error) is StoreOverloaded
    assert str(error) == "clickhouse://h:9000/market: Memory limit (code 241)"
