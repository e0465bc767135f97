"""Requests for the newest klines of many pairs, at a fixed rate."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from itertools import cycle

from klineagent.bench.figures import Answers
from klineagent.bench.operation.load_generator import Ask, LoadGenerator, RequestRate
from klineagent.bench.operation.questions import Question
from klineagent.bench.reading.http_client import HTTP_ERRORS, open_http_client
from klineagent.core.errors import reason_of

ROWS = 500


def klines_of(symbol: str) -> str:
    """Return the target of a request for the newest minutes of a USD-M pair."""
    return f"/fapi/v1/klines?symbol={symbol}&interval=1m&limit={ROWS}"


class KlinesLoad(RequestRate, frozen=True, kw_only=True, tag=True):
    """Asks for the pairs in turn."""

    server: str
    """Address of the read server."""
    symbols: tuple[str, ...]

    async def run(self) -> Answers:
        """Send all requests, and return the results of those that were due in the window."""
        generator = LoadGenerator(self, self._questions(), (self.server,), self._client)
        return await generator.run()

    def _questions(self) -> Iterator[Question]:
        for symbol in cycle(self.symbols):
            yield Question(kind="klines", server=self.server, path=klines_of(symbol))

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[Ask]:
        async with open_http_client(self.server) as client:

            async def ask(question: Question) -> str:
                try:
                    answer = await client.get(question.path)
                except HTTP_ERRORS as error:
                    return reason_of(error)
                return "" if answer.status == HTTPStatus.OK else str(answer.status)

            yield ask
