"""Mutants of the read side: each answers with a candle too few, too old or too early."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
import trio

from klineagent.core.errors import NotReadable
from klineagent.core.kline import Kline, SeriesName
from klineagent.reading import candles, ranges
from klineagent.reading.candles import CandleReader
from klineagent.reading.request import CandleRange, CandleRequest
from klineagent.reading.rows import RowFormat
from klineagent.reading.tail import TailSeries
from klineagent.storage.writing.writer import Writer


@contextmanager
def patched(owner: Any, name: str, value: object) -> Iterator[None]:
    """Replace an attribute while the block lasts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, value)
        yield


def gaps_ignored() -> AbstractContextManager[None]:
    """Answer although candles are missing, or just over."""
    return patched(candles, "_obstacle", lambda *_: "")


def what_lacks_ignored() -> AbstractContextManager[None]:
    """Take for whole what memory and store have."""
    return patched(candles, "_lacking", lambda *_: 0)


def waiting_rows_skipped() -> AbstractContextManager[None]:
    """Read the store without what waits to be stored, and take that for whole."""

    async def nothing(
        _: Writer, names: Collection[SeriesName]
    ) -> Mapping[SeriesName, Sequence[Kline]]:
        await trio.lowlevel.checkpoint()
        return dict.fromkeys(names, ())

    @contextmanager
    def both() -> Iterator[None]:
        with patched(candles, "waiting_rows", nothing), what_lacks_ignored():
            yield

    return both()


def stale_tail() -> AbstractContextManager[None]:
    """Keep the first state of a forming candle."""
    take = TailSeries.take

    def keep(self: TailSeries, kline: Kline) -> None:
        if kline.is_closed and self.forming is not None:
            take(self, self.forming._replace(is_closed=True, version=kline.version))
        else:
            take(self, kline)

    return patched(TailSeries, "take", keep)


def end_excluded() -> AbstractContextManager[None]:
    """Leave out the candle that opens at `endTime`."""
    bounds = CandleRequest.bounds

    def one_less(self: CandleRequest, *args: Any) -> tuple[int, int]:
        first_ms, end_ms = bounds(self, *args)
        return first_ms, end_ms if self.until_ms is None else self.interval.shifted(end_ms, -1)

    return patched(CandleRequest, "bounds", one_less)


def start_excluded() -> AbstractContextManager[None]:
    """Leave out the candle that opens at `startTime`."""
    bounds = CandleRequest.bounds

    def one_later(self: CandleRequest, *args: Any) -> tuple[int, int]:
        first_ms, end_ms = bounds(self, *args)
        return first_ms if self.since_ms is None else self.interval.shifted(first_ms, 1), end_ms

    return patched(CandleRequest, "bounds", one_later)


def always_newest() -> AbstractContextManager[None]:
    """Answer with the newest of a range where the oldest are asked for."""
    bounds = CandleRequest.bounds

    def newest(self: CandleRequest, *args: Any) -> tuple[int, int]:
        object.__setattr__(self, "is_oldest_first", False)
        return bounds(self, *args)

    return patched(CandleRequest, "bounds", newest)


def absent_counted() -> AbstractContextManager[None]:
    """Count candles that do not exist for the limit."""
    bounds = CandleRequest.bounds
    return patched(CandleRequest, "bounds", lambda self, now_ms, *_: bounds(self, now_ms))


def past_unrefused() -> AbstractContextManager[None]:
    """Answer from the series' first candle on, whatever is asked for."""
    bounds = CandleReader._bounds

    def clipped(
        self: CandleReader, running: Any, series: Any, tail: Any, asked: Any
    ) -> tuple[int, int]:
        try:
            return bounds(self, running, series, tail, asked)
        except NotReadable:
            first_ms, end_ms = asked.bounds(running.context.time.now_ms())
            return max(first_ms, series.ledger.first_ms), end_ms

    return patched(CandleReader, "_bounds", clipped)


def decimals_short() -> AbstractContextManager[None]:
    """Write numbers with the decimals of another symbol."""
    row = RowFormat.row
    return patched(RowFormat, "row", lambda self, kline: row(self, kline).replace(b'0"', b'"'))


def trades_lost() -> AbstractContextManager[None]:
    """Write a count of trades that is one too low."""
    row = RowFormat.row
    return patched(
        RowFormat, "row", lambda self, kline: row(self, kline._replace(trades=kline.trades - 1))
    )


def document_end_excluded() -> AbstractContextManager[None]:
    """Leave out the last candle of a document."""
    bounds = CandleRange.bounds

    def one_less(self: CandleRange, *args: Any) -> tuple[int, int]:
        first_ms, end_ms = bounds(self, *args)
        return first_ms, self.interval.shifted(end_ms, -1)

    return patched(CandleRange, "bounds", one_less)


def document_over_gaps() -> AbstractContextManager[None]:
    """Take for whole what the store has of a document."""

    @contextmanager
    def both() -> Iterator[None]:
        with (
            patched(ranges, "_gaps", lambda *_: []),
            patched(ranges, "count_lacking", lambda *_, **__: 0),
        ):
            yield

    return both()


READING_MUTANTS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    mutant.__name__: mutant
    for mutant in (
        gaps_ignored,
        what_lacks_ignored,
        waiting_rows_skipped,
        stale_tail,
        end_excluded,
        start_excluded,
        always_newest,
        absent_counted,
        past_unrefused,
        decimals_short,
        trades_lost,
        document_end_excluded,
        document_over_gaps,
    )
}
