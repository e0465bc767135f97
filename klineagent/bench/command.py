"""`klineagent bench`: each scenario is a command that prints its results as tables or JSON."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, TypeVar

import click
import msgspec
from attrs import evolve
from rich.console import Console
from rich.status import Status
from rich.table import Table

from klineagent.bench import scenarios
from klineagent.bench.bots.comparison import Fleet, compare_ways
from klineagent.bench.dashboard.dashboard import DASHBOARD, Visitors, visit
from klineagent.bench.operation.operation import OPERATE, operate
from klineagent.bench.outcome import Outcome
from klineagent.bench.peers.comparison import COMPARISON, compare_peers
from klineagent.bench.peers.ranking import bars_of
from klineagent.bench.reading.reading import READING, Readers, read
from klineagent.bench.report import (
    answers_table,
    bars_table,
    figures_table,
    peers_table,
    ways_table,
)
from klineagent.bench.workload import FRESH, MAX, Workload
from klineagent.cli.options import FiniteRange
from klineagent.cli.running import run as run_under_trio
from klineagent.cli.tables import wide_console
from klineagent.config.converters import to_intervals, to_store_url, to_venue
from klineagent.config.model import as_written
from klineagent.core.errors import Interrupted, KlineagentError
from klineagent.exchange.venues import USDM
from klineagent.process.logs import LogFormat, LogLevel, configure_logging
from klineagent.process.signals import open_stop_signal

Scenario = Callable[[Workload], Awaitable[Outcome]]
_Command = TypeVar("_Command", bound=Callable[..., Any])
_Result = TypeVar("_Result")


@click.group()
def bench() -> None:
    """Measure the agent as it is served against the exchange twin.

    Agent and twin run in processes of their own. docs/performance.md explains what is measured.
    """
    configure_logging(LogFormat.CONSOLE, level=LogLevel.ERROR)


def _checked(convert: Callable[[str], object]) -> Callable[..., object]:
    """Make a click callback that converts an option's text; defaults pass unconverted."""

    def check(_ctx: click.Context, _param: click.Parameter, value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            return convert(value)
        except (ValueError, KlineagentError) as error:
            raise click.BadParameter(str(error)) from error

    return check


def _to_rate(value: str) -> str | None:
    if value == "":
        return None
    if value != MAX and not value.isdecimal():
        raise ValueError(f"expected a whole number or {MAX}, got {value!r}")
    return value


def _to_symbols(value: str) -> Mapping[str, int]:
    counts = {}
    for each in value.split(","):
        venue, _, count = each.rpartition("=")
        counts[to_venue(venue or USDM.name).name] = _SYMBOL_COUNT(count)
    return counts


def _to_store(value: str) -> str:
    return value if value == FRESH else to_store_url(value)


_DAY_S = 86_400
_SYMBOL_COUNT = click.IntRange(1, 2000)
_SECONDS = FiniteRange(min=0.1, max=_DAY_S)
_WARM_UP = FiniteRange(min=0, max=_DAY_S)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def _options(default: Workload, *left_out: str) -> Callable[[_Command], _Command]:
    """Add an option for each field of `Workload` except those left out."""
    option = partial(click.option, show_default=True)
    both = default.tls is None
    options = {
        "symbols": option(
            "--symbols",
            default=as_written(default.symbols),
            callback=_checked(_to_symbols),
            metavar="N",
            help="How many symbols to record; of several venues as in usdm=640,spot=1500,coinm=60.",
        ),
        "intervals": option(
            "--intervals",
            default=as_written(default.intervals),
            show_default="all",
            callback=_checked(to_intervals),
            metavar="1m,5m,...",
        ),
        "rate": option(
            "--rate",
            default=default.rate,
            callback=_checked(_to_rate),
            metavar=f"N|{MAX}",
            help="Frames a second; '' for the twin's own pace.",
        ),
        "tls": option("--tls/--no-tls", default=default.tls, show_default="both" if both else True),
        "store": option(
            "--store",
            default=default.store,
            callback=_checked(_to_store),
            metavar="URL",
            help=f"{FRESH} is the embedded engine in a folder that is deleted afterwards.",
        ),
        "seconds": option(
            "--seconds",
            default=default.seconds,
            type=_SECONDS,
            metavar="S",
            help="Length of the window.",
        ),
        "warm_up_s": option(
            "--warm-up",
            "warm_up_s",
            default=default.warm_up_s,
            type=_WARM_UP,
            metavar="S",
            help="Time between the moment all streams run and the window.",
        ),
    }
    if default.requests:
        options["requests"] = option(
            "--requests",
            default=default.requests,
            type=click.IntRange(1, 10_000),
            metavar="N",
            help="HTTP requests a second, in the second window.",
        )

    def add(command: _Command) -> _Command:
        command = _JSON(command)
        for name in reversed(options):
            if name not in left_out:
                command = options[name](command)
        return command

    return add


def _offer(name: str, scenario: Scenario, default: Workload) -> None:
    """Add `scenario` as a command."""

    @bench.command(name, help=scenario.__doc__)
    @_options(default)
    def run(*, as_json: bool, **given: Any) -> None:
        with _busy(name):
            outcome = _run(partial(scenario, Workload(**given)))
        _show_outcome(name, outcome, as_json=as_json)


_offer("saturated", scenarios.saturated, scenarios.SATURATED)
_offer("paced", scenarios.paced, scenarios.PACED)
_offer("minute-close", scenarios.minute_close, scenarios.MINUTE_CLOSE)
_offer("subscribe", scenarios.subscribe, scenarios.SUBSCRIBE)
_offer("linear", scenarios.linear, scenarios.LINEAR)
_offer("operate", operate, OPERATE)


@bench.command()
@click.option(
    "--candles",
    default=Readers().candles,
    show_default=True,
    type=click.IntRange(1, 10_000_000),
    metavar="N",
    help="Length of a document.",
)
@click.option(
    "--closes",
    default=Readers().closes,
    show_default=True,
    type=click.IntRange(0, 99),
    metavar="N",
    help="How many closes of a minute 80 pairs, or few, are asked for at.",
)
@_options(READING)
def reading(*, candles: int, closes: int, as_json: bool, **given: Any) -> None:
    """Record while programs read: klines, streams and documents."""
    readers = Readers(candles=candles, closes=closes)
    with _busy("reading") as status:
        outcome = _run(partial(read, Workload(**given), readers, announce=status.update))
    _show_outcome("reading", outcome, as_json=as_json)


@bench.command()
@click.option(
    "--tabs",
    default=Visitors().tabs,
    show_default=True,
    type=click.IntRange(1, 99),
    metavar="N",
    help="How many tabs are open in the second window.",
)
@click.option("--browser", metavar="PATH", help="Chromium, if it is not the one that is installed.")
@_options(DASHBOARD)
def dashboard(*, tabs: int, browser: str | None, as_json: bool, **given: Any) -> None:
    """Record while the dashboard is open in a browser.

    How soon it shows, and what open tabs cost. Needs Chromium and pip install 'klineagent[bench]'.
    """
    visitors = Visitors(tabs=tabs, browser=browser)
    with _busy("dashboard"):
        outcome = _run(partial(visit, Workload(**given), visitors))
    _show_outcome("dashboard", outcome, as_json=as_json)


@bench.command()
@click.option(
    "--turns",
    default=1,
    show_default=True,
    type=click.IntRange(1, 99),
    metavar="N",
    help="How many times each client is measured; its median is shown.",
)
@_options(COMPARISON, "intervals", "store")
def peers(*, turns: int, as_json: bool, **given: Any) -> None:
    """Compare with other clients.

    All receive the same frames, as fast as they can and at a fixed rate. Only installed clients
    take part: pip install 'klineagent[peers]'.
    """
    with _busy("peers") as status:
        load = evolve(COMPARISON, **given)
        results = _run(partial(compare_peers, load, announce=status.update, turns=turns))
    bars = bars_of(results)
    result = {
        "scenario": "peers",
        "turns": turns,
        "entries": results,
        "bars": [bar.as_json() for bar in bars],
    }
    _show(result, [peers_table(results), bars_table(bars)], as_json=as_json)


@bench.command()
@click.option(
    "--bots", default=Fleet().bots, show_default=True, type=click.IntRange(1, 99), metavar="N"
)
@click.option(
    "--pairs",
    default=Fleet().pairs,
    show_default=True,
    type=_SYMBOL_COUNT,
    metavar="N",
    help="How many pairs each bot asks for, all of them the same.",
)
@click.option(
    "--closes",
    default=Fleet().closes,
    show_default=True,
    type=click.IntRange(1, 99),
    metavar="N",
    help="How many closes of a minute.",
)
@_JSON
def bots(*, as_json: bool, **given: Any) -> None:
    """Compare ways of bots to the exchange.

    ccxt asks for its pairs at each minute's close: of the exchange, of a caching proxy, of
    klineagent. Needs ccxt: pip install 'klineagent[peers]'.
    """
    with _busy("bots") as status:
        results = _run(partial(compare_ways, Fleet(**given), announce=status.update))
    _show({"scenario": "bots", "ways": results}, [ways_table(results)], as_json=as_json)


def _busy(name: str) -> Status:
    """A status line on the terminal that shows what is being measured."""
    return Console(stderr=True).status(name)


def _run(measure: Callable[[], Awaitable[_Result]]) -> _Result:
    """Run a measurement to its end.

    Raises:
        Interrupted: a signal stopped it; all its processes have ended.
    """
    results: list[_Result] = []

    async def until_stopped() -> None:
        async with open_stop_signal() as stop:
            try:
                results.append(await measure())
            except* KlineagentError:
                # Ctrl-C reaches child processes, too; some end before we terminate them.
                if not stop.block.cancel_called:
                    raise

    run_under_trio(until_stopped)
    if not results:
        raise Interrupted("stopped before the measurement ended")
    return results[0]


def _show_outcome(scenario: str, outcome: Outcome, *, as_json: bool) -> None:
    tables = [
        figures_table(scenario, outcome.runs),
        *([answers_table(outcome.answers)] if outcome.answers else []),
        bars_table(outcome.bars),
    ]
    _show({"scenario": scenario, **outcome.as_json()}, tables, as_json=as_json)


def _show(result: dict[str, Any], tables: list[Table], *, as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(result)))
    else:
        console = wide_console()
        for table in tables:
            console.print(table)
