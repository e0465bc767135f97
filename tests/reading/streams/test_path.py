"""The paths of stream sockets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klineagent.core.errors import InvalidRequest, NoSuchSocket
from klineagent.exchange.venues import COINM, SPOT, USDM, Venue
from klineagent.reading.streams.path import read_path, token_in

NAMES = st.lists(st.from_regex(r"[a-z0-9]{2,9}@kline_[1-9][mhdw]", fullmatch=True), max_size=5)


@pytest.mark.parametrize(
    ("target", "venues", "is_combined", "names"),
    [
        ("/ws", (SPOT, COINM, USDM), False, ()),
        ("/stream", (SPOT, COINM, USDM), True, ()),
        ("/market/ws/0", (USDM, COINM), False, ("0",)),
        ("/public/stream", (USDM, COINM), True, ()),
        ("/private/stream", (USDM, COINM), True, ()),
        ("//market/ws/btcusdt@kline_1m", (USDM, COINM), False, ("btcusdt@kline_1m",)),
        ("/market/stream?streams=a@b/c@d", (USDM, COINM), True, ("a@b", "c@d")),
        ("/stream/?streams=a%40b", (SPOT, COINM, USDM), True, ("a@b",)),
        ("/spot/ws/a/b/", (SPOT,), False, ("a", "b")),
        ("/spot/stream?streams=", (SPOT,), True, ()),
        ("/usdm/market/ws", (USDM,), False, ()),
        ("/coinm/ws?token=x", (COINM,), False, ()),
        ("/ws/%E5%B8%81usdt@kline_1m", (SPOT, COINM, USDM), False, ("币usdt@kline_1m",)),
    ],
)
def test_every_form_that_clients_dial(
    target: str, venues: tuple[Venue, ...], is_combined: bool, names: tuple[str, ...]
) -> None:
    """With a route or a venue before it, with names in the path or the query, or without."""
    path = read_path(target)
    assert (path.venues, path.is_combined, path.names) == (venues, is_combined, names)


@given(NAMES, st.sampled_from(["", "/market", "/spot"]))
def test_names_are_those_of_both_forms(names: list[str], prefix: str) -> None:
    """In their order."""
    joined = "/".join(names)
    assert read_path(f"{prefix}/ws/{joined}").names == tuple(names)
    assert read_path(f"{prefix}/stream?streams={joined}").names == tuple(names)


@pytest.mark.parametrize(
    "target", ["/", "", "/wss", "/market", "/stream/a@b", "/market/spot/ws", "/fapi/v1/klines"]
)
def test_other_paths_are_not_found(target: str) -> None:
    """So that a typing error is no silence."""
    with pytest.raises(NoSuchSocket):
        read_path(target)


def test_other_times_are_refused() -> None:
    """Events with wrong units would be worse than none."""
    with pytest.raises(InvalidRequest, match="timeUnit"):
        read_path("/stream?streams=a@b&timeUnit=MICROSECOND")
    assert read_path("/stream?timeUnit=millisecond").is_combined


def test_a_token_may_be_in_the_query() -> None:
    """Percent-encoded, as in any URL; it is no part of what is read of the path."""
    assert token_in("/ws?streams=a&token=a%2Bb") == "a+b"
    assert token_in("/ws") == ""
    assert "a%2Bb" not in repr(read_path("/ws?token=a%2Bb"))
