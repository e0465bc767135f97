"""`klineagent prove`: many runs, on all the cores one gives it, with progress on the terminal."""

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
from klineagent.cli.tables import wide_console
from klineagent.core.errors import ConfigError, Interrupted
from klineagent.core.suggestions import meant
from klineagent.proof.plan import Plan, ProofFailed, Report
from klineagent.proof.run import prove as run_plan
from klineagent.proof.schedule import KINDS

ALL, NONE = "all", "none"


@click.command()
@click.option("--seed", default=1, show_default=True, metavar="N", help="Of the first run.")
@click.option(
    "--runs",
    default=1,
    show_default=True,
    type=click.IntRange(min=1),
    metavar="R",
    help="Each with the next seed.",
)
@click.option(
    "--days",
    default=2.0,
    show_default=True,
    type=FiniteRange(min=0.1),
    metavar="D",
    help="Simulated days of each run.",
)
@click.option(
    "--symbols",
    default=12,
    show_default=True,
    type=click.IntRange(1, 600),
    metavar="S",
    help="Recorded at all 15 intervals.",
)
@click.option(
    "--faults",
    default=ALL,
    show_default=True,
    metavar="KIND,...",
    help=f"all, none, or some of: {', '.join(KINDS)}.",
)
@click.option(
    "--jobs",
    default=os.cpu_count() or 1,
    show_default="one for each core",
    type=click.IntRange(min=1),
    metavar="J",
    help="Runs at a time.",
)
def prove(seed: int, runs: int, days: float, symbols: int, faults: str, jobs: int) -> None:
    """Prove that no candle is missing, wrong or doubled, and no limit broken.

    Whole agents record a made-up exchange on a virtual clock while everything goes wrong: exchange,
    network, database, disk, and the agent itself, which is killed and started again. In the end
    each candle is compared with what was traded, in every field. Exit code 1 at the first one
    that is not as it should be; the seed that is told then shows it again.
    """
    plan = Plan(seed=seed, days=days, symbols=symbols, kinds=_kinds(faults))
    plans = [evolve(plan, seed=number) for number in range(seed, seed + runs)]
    try:
        _prove(plans, jobs)
    except* KeyboardInterrupt as interrupts:
        raise Interrupted("stopped before all was proven") from interrupts


def _prove(plans: list[Plan], jobs: int) -> None:
    """Run `plans`, and tell of them."""
    total, runs = Report(), len(plans)
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
        question = meant(unknown[0], KINDS)
        use = f"{question} Use" if question else "use"
        raise ConfigError(
            f"--faults: there is no {unknown[0]}; {use} {ALL}, {NONE}, or some of"
            f" {', '.join(KINDS)}"
        )
    return kinds


def _reports(plans: list[Plan], jobs: int) -> Iterator[Report]:
    """What comes of `plans`, as they are done.

    Raises:
        ProofFailed: one of them failed; it names the command that shows it again.
    """
    if len(plans) == 1 or jobs == 1:
        for plan in plans:
            yield _outcome(plan, _run(plan))
        return
    # Spawned: a fork would share the parent's state with all its runs.
    context = multiprocessing.get_context("spawn")
    # At Ctrl-C they end without a word; who has started them tells of it.
    quietly = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=quietly) as pool:
        futures = {pool.submit(_run, plan): plan for plan in plans}
        try:
            for future in as_completed(futures):
                yield _outcome(futures[future], future.result())
        finally:
            _forget(futures)


def _forget(futures: Iterable[Future[Report | str]]) -> None:
    for future in futures:
        future.cancel()


def _run(plan: Plan) -> Report | str:
    """One run, in whatever process; a failure is its text."""
    # What agents tell of under faults is nobody's business here.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        return run_plan(plan)
    except ProofFailed as failure:
        return str(failure)


def _outcome(plan: Plan, result: Report | str) -> Report:
    if isinstance(result, Report):
        return result
    kinds = ALL if plan.kinds == KINDS else ",".join(plan.kinds) or NONE
    raise ProofFailed(
        f"{result}\nThe same again: klineagent prove --seed {plan.seed} --days {plan.days:g}"
        f" --symbols {plan.symbols} --faults {kinds}"
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


def _show(report: Report, *, digest: str) -> None:
    console = wide_console()
    console.print(
        f"[bold]{report.candles:,} candles checked, none missing, wrong or doubled[/bold]"
        f" in {report.runs} runs and {report.lives} lives of agents"
    )
    for title, counts in (
        ("Faults", report.injected),
        ("Repairs", report.repairs),
        ("Absent, and known to be", report.absent),
        ("Limits watched", report.limits),
    ):
        if counts:
            console.print(_table(title, counts))
    if digest:
        console.print(f"history {digest}")
    sys.stdout.flush()


def _table(title: str, counts: Counter[str]) -> Table:
    table = Table(title=title, box=None, title_justify="left", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right")
    for name, count in sorted(counts.items()):
        table.add_row(name, f"{count:,}")
    return table
