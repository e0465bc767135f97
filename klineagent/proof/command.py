"""`klineagent prove`: many runs in parallel processes, with progress on the terminal."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from functools import partial

import click
import structlog
from attrs import evolve
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from klineagent.cli.options import FiniteRange
from klineagent.cli.simulate import read_venues
from klineagent.cli.tables import wide_console
from klineagent.core.errors import ConfigError, Interrupted
from klineagent.core.suggestions import suggest
from klineagent.proof.plan import USUAL_DEPTH, ProofFailed, ProofPlan, ProofReport
from klineagent.proof.run import prove as run_plan
from klineagent.proof.schedule import KINDS

ALL, NONE = "all", "none"


@click.command()
@click.option("--seed", default=1, show_default=True, metavar="N", help="Seed of the first run.")
@click.option(
    "--runs",
    default=1,
    show_default=True,
    type=click.IntRange(min=1),
    metavar="R",
    help="Number of runs, each with the next seed.",
)
@click.option(
    "--days",
    default=2.0,
    show_default=True,
    type=FiniteRange(min=0.1),
    metavar="D",
    help="Simulated days per run.",
)
@click.option(
    "--venues",
    metavar="VENUE,...",
    help="Venues that each agent records; faults then strike one of them at a time, or all."
    "  [default: one, which follows from the seed]",
)
@click.option(
    "--symbols",
    default=12,
    show_default=True,
    type=click.IntRange(1, 600),
    metavar="S",
    help="Number of symbols of each venue, each at all 15 intervals.",
)
@click.option(
    "--history",
    default=USUAL_DEPTH,
    show_default=True,
    type=click.IntRange(min=20),
    metavar="N",
    help="Candles of each series from before its start; symbols were listed one day before it, or"
    f" three days where N is more than {USUAL_DEPTH}.",
)
@click.option(
    "--faults",
    default=ALL,
    show_default=True,
    metavar="KIND,...",
    help=f"Faults to inject: all, none, or some of: {', '.join(KINDS)}.",
)
@click.option(
    "--jobs",
    default=os.cpu_count() or 1,
    show_default="one for each core",
    type=click.IntRange(min=1),
    metavar="J",
    help="Number of runs at a time.",
)
def prove(
    seed: int,
    runs: int,
    days: float,
    venues: str | None,
    symbols: int,
    history: int,
    faults: str,
    jobs: int,
) -> None:
    """Prove that no candle is missing, wrong or doubled, and no limit broken.

    Whole agents record a simulated exchange on a virtual clock while exchange, network, database
    and disk fail, and the agent itself is killed and restarted. In the end every field of every
    candle is compared with what was traded. The first failure ends the command with exit code 1
    and prints the command that reproduces it.
    """
    plan = ProofPlan(
        seed=seed,
        days=days,
        venues=() if venues is None else read_venues(venues),
        symbols=symbols,
        depth=history,
        kinds=_kinds(faults),
    )
    plans = [evolve(plan, seed=number) for number in range(seed, seed + runs)]
    try:
        _prove(plans, jobs)
    except* KeyboardInterrupt as interrupts:
        raise Interrupted("stopped before all runs were done") from interrupts


def _prove(plans: list[ProofPlan], jobs: int) -> None:
    """Run `plans` and print their reports."""
    total, runs = ProofReport(), len(plans)
    console = Console(stderr=True)
    with _progress(console) as progress:
        bar = progress.add_task("proving", total=runs, candles=0)
        for report in _reports(plans, jobs):
            total = total.with_run(report)
            progress.update(bar, advance=1, candles=f"{total.candles:,}")
            if not console.is_terminal:
                console.print(f"{total.runs} of {runs} runs, {total.candles:,} candles checked")
    _show(total, digest=report.digest if runs == 1 else "")


def _kinds(faults: str) -> tuple[str, ...]:
    if faults in {ALL, NONE}:
        return KINDS if faults == ALL else ()
    kinds = tuple(kind.strip().replace("-", "_") for kind in faults.split(",") if kind.strip())
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        question = suggest(unknown[0], KINDS)
        use = f"{question} Use" if question else "use"
        raise ConfigError(
            f"--faults: there is no {unknown[0]}; {use} {ALL}, {NONE}, or some of"
            f" {', '.join(KINDS)}"
        )
    return kinds


def _reports(plans: list[ProofPlan], jobs: int) -> Iterator[ProofReport]:
    """Run `plans` and yield each report as it is done.

    Raises:
        ProofFailed: a run failed; the text names the command that reproduces it.
    """
    if len(plans) == 1 or jobs == 1:
        for plan in plans:
            yield _outcome(plan, _run(plan))
        return
    # Spawned, as a fork would share the parent's state with all runs.
    context = multiprocessing.get_context("spawn")
    # On Ctrl-C the children end silently; the parent prints the message.
    quietly = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=quietly) as pool:
        futures = {pool.submit(_run, plan): plan for plan in plans}
        try:
            for future in as_completed(futures):
                yield _outcome(futures[future], future.result())
        finally:
            _forget(futures)


def _forget(futures: Iterable[Future[ProofReport | str]]) -> None:
    for future in futures:
        future.cancel()


def _run(plan: ProofPlan) -> ProofReport | str:
    """Run one plan in this process; a failure is returned as its text."""
    # Agents log thousands of expected errors under faults.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        return run_plan(plan)
    except ProofFailed as failure:
        return str(failure)


def _outcome(plan: ProofPlan, result: ProofReport | str) -> ProofReport:
    if isinstance(result, ProofReport):
        return result
    kinds = ALL if plan.kinds == KINDS else ",".join(plan.kinds) or NONE
    venues = f" --venues {','.join(plan.venues)}" if plan.venues else ""
    raise ProofFailed(
        f"{result}\nTo reproduce: klineagent prove --seed {plan.seed} --days {plan.days:g}"
        f"{venues} --symbols {plan.symbols} --history {plan.depth} --faults {kinds}"
    )


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("runs, {task.fields[candles]} candles checked"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def _show(report: ProofReport, *, digest: str) -> None:
    console = wide_console()
    console.print(
        f"[bold]{report.candles:,} candles checked, none missing, wrong or doubled[/bold]"
        f" in {report.runs} runs with {report.starts} agent starts"
    )
    for title, counts in (
        ("Candles by venue", report.by_venue if len(report.by_venue) > 1 else Counter[str]()),
        ("Stored within 5 s while only another venue failed", report.in_time),
        ("Faults", report.injected),
        ("Repairs", report.repairs),
        ("Confirmed absent", report.absent),
        ("Answers to a program that reads, none wrong or short", report.reads),
        ("Events told to one that listens, none wrong or left out", report.heard),
        ("Limits watched", report.limits),
    ):
        if counts:
            console.print(f"[italic]{title}[/italic]", _table(counts), sep="\n")
    if digest:
        console.print(f"history {digest}")
    sys.stdout.flush()


def _table(counts: Counter[str]) -> Table:
    table = Table(box=None, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right")
    for name, count in sorted(counts.items()):
        table.add_row(name, f"{count:,}")
    return table
