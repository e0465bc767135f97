"""Whether an agent that is asked many things records as one that is left alone."""

from __future__ import annotations

import sys

import msgspec

from klineagent.bench.child import open_child
from klineagent.bench.figures import Answers, Figures, Spread
from klineagent.bench.load import FRESH, Load
from klineagent.bench.measurement import READY_WITHIN_S, Scene, figures_of, open_scene
from klineagent.bench.operation.load_generator import PATIENCE_S, Calling
from klineagent.bench.operation.questions import Topics
from klineagent.bench.outcome import Bar, Outcome, percent_of_sent

OPERATE = Load(symbols=600, rate="36000", seconds=60, tls=True, store=FRESH, requests=200)

# An ordinary minute ends in each of two windows of a minute: no candle of 3 or 5 minutes with it.
_START = "2027-02-02T00:00:40"
_OF_FIRST_WINDOW = "2027-02-02T00:01:00Z"

_ANSWERED = 0.99
# A tenth of what rows wait for each other anyway.
_UNCHANGED_MS = 100


async def operate(load: Load) -> Outcome:
    """A window without requests, and one with many, beside the whole market."""
    async with open_scene(load, "--start", _START, windows=2, spare_symbols=1) as scene:
        calling = _calling(scene)
        command = [
            *(sys.executable, "-m", "klineagent.bench.operation.load_generator"),
            msgspec.json.encode(calling).decode(),
        ]
        async with open_child("the caller", command, tells_on="stdout") as caller:
            await caller.told_within(READY_WITHIN_S, "ready")
            quiet = await figures_of(scene)
            await caller.go()
            asked = await figures_of(scene, window=1)
            told = await caller.told_within(2 * PATIENCE_S, "answered")
    answers = msgspec.convert(told["answers"], Answers)
    return Outcome(
        runs={"left alone": quiet, f"{load.requests} requests a second": asked},
        bars=bars_of(load, quiet, asked, answers),
        answers=answers,
    )


def _calling(scene: Scene) -> Calling:
    load, symbols = scene.load, scene.twin.symbols
    topics = Topics(
        command=scene.command,
        status=scene.status,
        symbols=symbols[: load.symbols],
        spare_symbol=symbols[load.symbols],
        intervals=load.intervals,
        open_time=_OF_FIRST_WINDOW,
    )
    return Calling(
        topics=topics, per_s=load.requests, warm_up_s=load.warm_up_s, seconds=load.seconds
    )


def bars_of(load: Load, quiet: Figures, asked: Figures, answers: Answers) -> list[Bar]:
    """What must be true of requests, and of recording beside them.

    Recording is unchanged while all comes that is sent, and its newest rows are stored as soon as
    before. How long a closed candle waits is told without a bar: in one minute it is mostly luck,
    by how much of the writer's second is left.
    """
    took, lag = answers.took_ms, asked.lag_ms
    return [
        Bar(what="requests that failed", seen=sum(answers.errors.values()), most=0),
        Bar(what="requests a second", seen=answers.per_s, least=_ANSWERED * load.requests),
        Bar(what="requests p99, ms", seen=took.p99 if took else None, most=50),
        Bar(what="% of what is sent", seen=percent_of_sent(load, asked), least=98),
        Bar(what="event-loop lag p99, ms", seen=lag.p99 if lag else None, most=20),
        *(
            Bar(what=f"age of the newest row {name}, ms more", seen=more, most=_UNCHANGED_MS)
            for name, more in _more(quiet.insert_age_ms, asked.insert_age_ms).items()
        ),
        *(
            Bar(what=f"close to stored {name}, ms more", seen=more)
            for name, more in _more(quiet.close_to_stored_ms, asked.close_to_stored_ms).items()
        ),
    ]


def _more(before: Spread | None, beside: Spread | None) -> dict[str, float | None]:
    return {
        name: getattr(beside, name) - getattr(before, name) if before and beside else None
        for name in ("p50", "p99")
    }
