from __future__ import annotations

import pytest

from klineagent.twin.feed.firehose import FrameTemplate, filled_in, template_of
from klineagent.twin.interval import SECOND_MS, TwinInterval
from klineagent.twin.market.random import RandomMarket
from klineagent.twin.wire import Series, kline_event
from tests.twin.samples import START_MS

LATER_MS = START_MS + 7 * SECOND_MS


@pytest.mark.parametrize("combined", [True, False])
def test_a_filled_template_is_the_frame_of_its_time(market: RandomMarket, combined: bool) -> None:
    """Only the time differs, whatever the symbol's name."""
    frames, templates = [], []
    for listing in market.listings:
        candle = market.minute(listing.symbol, START_MS)
        if candle is None:  # a quarterly that is not listed yet
            continue
        series = Series(listing, TwinInterval.M1)
        early = kline_event(series, candle, START_MS, is_closed=False)
        late = kline_event(series, candle, LATER_MS, is_closed=False)
        templates.append(template_of(early, combined=combined))
        frames.append(late.framed(combined=combined))
    assert len(frames) >= len(market.listings) - 2
    assert filled_in(templates, LATER_MS) == b"".join(frames)


def test_no_templates_are_no_bytes() -> None:
    """Joining nothing yields nothing."""
    assert filled_in([], START_MS) == b""
    assert filled_in([FrameTemplate(b"<", b">")], START_MS) == b"<%d>" % START_MS
