"""`klineagent bench`: scenarios as commands; what they show as tables or as JSON."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

import click
import msgspec
from attrs import evolve
from rich.console import Console
from rich.status import Status
from rich.table import Table

from klineagent.bench import scenarios
from klineagent.bench.load import FRESH, MAX, Load
from klineagent.bench.operation.operation import OPERATE, operate
from klineagent.bench.outcome import Outcome
from klineagent.bench.peers.comparison import CONTEST, contest
from klineagent.bench.peers.ranking import bars_of
from klineagent.bench.report import answers_table, bars_table, entries_table, figures_table
from klineagent.cli.options import FiniteRange
from klineagent.cli.running import run as run_under_trio
from klineagent.cli.tables import wide_console
from klineagent.config.converters import to_intervals, to_store_url
from klineagent.config.model import as_written
from klineagent.core.errors import Interrupted, KlineagentError
from klineagent.process.logs import LogFormat, LogLevel, configure_logging
from klineagent.process.signals import open_stop_signal

Scenario = Callable[[Load], Awaitable[Outcome]]
_Command = TypeVar("_Command", bound=Callable[..., Any])
_Result = TypeVar("_Result")


@click.group()
def bench() -> None:
    """Measure the agent as it is served against the exchange twin.

    Each runs in a process of its own. docs/performance.md tells what is measured, and how.
    """
    configure_logging(LogFormat.CONSOLE, level=LogLevel.ERROR)


def _checked(convert: Callable[[str], object]) -> Callable[..., object]:
    """A callback of click that converts an option's text, where it is not the default."""

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


def _to_store(value: str) -> str:
    return value if value == FRESH else to_store_url(value)


_DAY_S = 86_400
_SECONDS = FiniteRange(min=0.1, max=_DAY_S)
_WARM_UP = FiniteRange(min=0, max=_DAY_S)
_JSON = click.option("--json", "as_json", is_flag=True, help="One object, for programs.")


def _options(default: Load, *left_out: str) -> Callable[[_Command], _Command]:
    """An option for each field of `Load`, but for those left out."""
    option = partial(click.option, show_default=True)
    both = default.tls is None
    options = {
        "symbols": option(
            "--symbols", default=default.symbols, type=click.IntRange(1, 2000), metavar="N"
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
            help="Frames a second; '' for what the twin does of itself.",
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
            "--seconds", default=default.seconds, type=_SECONDS, metavar="S", help="Of the window."
        ),
        "warm_up_s": option(
            "--warm-up",
            "warm_up_s",
            default=default.warm_up_s,
            type=_WARM_UP,
            metavar="S",
            help="Before it, once all streams run.",
        ),
    }
    if default.requests:
        options["requests"] = option(
            "--requests",
            default=default.requests,
            type=click.IntRange(1, 10_000),
            metavar="N",
            help="A second, in the second window.",
        )

    def add(command: _Command) -> _Command:
        command = _JSON(command)
        for name in reversed(options):
            if name not in left_out:
                command = options[name](command)
        return command

    return add


def _offer(name: str, scenario: Scenario, default: Load) -> None:
    """Make `scenario` a command."""

    @bench.command(name, help=scenario.__doc__)
    @_options(default)
    def run(*, as_json: bool, **given: Any) -> None:
        with _busy(name):
            outcome = _run(partial(scenario, Load(**given)))
        tables = [
            figures_table(name, outcome.runs),
            *([answers_table(outcome.answers)] if outcome.answers else []),
            bars_table(outcome.bars),
        ]
        _show({"scenario": name, **outcome.as_json()}, tables, as_json=as_json)


_offer("saturated", scenarios.saturated, scenarios.SATURATED)
_offer("paced", scenarios.paced, scenarios.PACED)
_offer("minute-close", scenarios.minute_close, scenarios.MINUTE_CLOSE)
_offer("subscribe", scenarios.subscribe, scenarios.SUBSCRIBE)
_offer("linear", scenarios.linear, scenarios.LINEAR)
_offer("operate", operate, OPERATE)


@bench.command()
@click.option(
    "--turns",
    default=1,
    show_default=True,
    type=click.IntRange(1, 99),
    metavar="N",
    help="How often each client has its turn; its median is told.",
)
@_options(CONTEST, "intervals", "store")
def peers(*, turns: int, as_json: bool, **given: Any) -> None:
    """The same frames through other clients, as fast as they can and at a rate.

    Those that are installed: pip install 'klineagent[peers]'.
    """
    with _busy("peers") as status:
        load = evolve(CONTEST, **given)
        entries = _run(partial(contest, load, tell=status.update, turns=turns))
    bars = bars_of(entries)
    told = {
        "scenario": "peers",
        "turns": turns,
        "entries": entries,
        "bars": [bar.as_json() for bar in bars],
    }
    _show(told, [entries_table(entries), bars_table(bars)], as_json=as_json)


def _busy(name: str) -> Status:
    """Tells on a terminal, beside the results, what is measured at the moment."""
    return Console(stderr=True).status(name)


def _run(measure: Callable[[], Awaitable[_Result]]) -> _Result:
    """Run a measurement until it is done.

    Raises:
        Interrupted: a signal has stopped it; all processes have ended.
    """
    results: list[_Result] = []

    async def until_stopped() -> None:
        async with open_stop_signal() as stop:
            try:
                results.append(await measure())
            except* KlineagentError:
                # Ctrl-C reaches our processes, too, and some end before they are told to.
                if not stop.block.cancel_called:
                    raise

    run_under_trio(until_stopped)
    if not results:
        raise Interrupted("stopped before it was measured")
    return results[0]


def _show(told: dict[str, Any], tables: list[Table], *, as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(told)))
    else:
        console = wide_console()
        for table in tables:
            console.print(table)
