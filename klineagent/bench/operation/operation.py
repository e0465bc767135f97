"""The scenario `operate`: does an agent under HTTP load record as well as an undisturbed one?"""

from __future__ import annotations

import sys

import msgspec

from klineagent.bench.child import open_child
from klineagent.bench.figures import AgentFigures, Answers, Spread
from klineagent.bench.measurement import READY_WITHIN_S, Scene, figures_of, open_scene
from klineagent.bench.operation.load_generator import PATIENCE_S, LoadPlan
from klineagent.bench.operation.questions import Topics
from klineagent.bench.outcome import Bar, Outcome, percent_of_sent
from klineagent.bench.workload import FRESH, Workload

OPERATE = Workload(symbols=600, rate="36000", seconds=60, tls=True, store=FRESH, requests=200)

# In each of two windows of a minute only 1m candles close, none of 3 or 5 minutes.
_START = "2027-02-02T00:00:40"
_OF_FIRST_WINDOW = "2027-02-02T00:01:00Z"

_ANSWERED = 0.99
# A tenth of the time for which rows are batched anyway.
_UNCHANGED_MS = 100


async def operate(load: Workload) -> Outcome:
    """Record while answering HTTP requests.

    The whole market in two windows, the second of them with requests.
    """
    async with open_scene(load, "--start", _START, spare_symbols=1) as scene:
        plan = _load_plan(scene)
        command = [
            *(sys.executable, "-m", "klineagent.bench.operation.load_generator"),
            msgspec.json.encode(plan).decode(),
        ]
        async with open_child("the generator", command, reports_on="stdout") as generator:
            await generator.event_within(READY_WITHIN_S, "ready")
            quiet = await figures_of(scene)
            await generator.go()
            asked = await figures_of(scene)
            event = await generator.event_within(2 * PATIENCE_S, "answered")
    answers = msgspec.convert(event["answers"], Answers)
    return Outcome(
        runs={"left alone": quiet, f"{load.requests} requests a second": asked},
        bars=bars_of(load, quiet, asked, answers),
        answers=answers,
    )


def _load_plan(scene: Scene) -> LoadPlan:
    load = scene.load
    topics = Topics(
        command=scene.command,
        status=scene.status,
        symbols=scene.symbols,
        spare_symbol=scene.spare[0],
        intervals=load.intervals,
        open_time=_OF_FIRST_WINDOW,
    )
    return LoadPlan(
        topics=topics, per_s=load.requests, warm_up_s=load.warm_up_s, seconds=load.seconds
    )


def bars_of(
    load: Workload, quiet: AgentFigures, asked: AgentFigures, answers: Answers
) -> list[Bar]:
    """The bars for requests, and for recording under them.

    Recording is unchanged if all sent frames arrive and the newest rows are stored as soon as
    before. The wait of closed candles is shown without a bar: in one minute it is mostly luck, as
    it depends on how much of the writer's second is left.
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
