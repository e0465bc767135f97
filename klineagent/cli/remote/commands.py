"""Commands to a running agent: `klineagent status`, `list`, `add`, `remove` and the others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, TypeVar

import click
import msgspec
from msgspec import Raw, Struct
from rich.console import RenderableType

from klineagent.api.models.contract import Connections, Status, SymbolsAdded, SymbolsBody
from klineagent.api.models.reports import Feeds, Limits, Storage, Why
from klineagent.api.models.subscriptions import (
    SubscriptionChange,
    SubscriptionOutcome,
    SubscriptionsNow,
)
from klineagent.api.models.timestamps import read_moment
from klineagent.cli.options import FiniteRange, read_interval, read_symbol
from klineagent.cli.remote import exchange_views, views
from klineagent.cli.remote.connection import Address, AgentAnswer, AgentConnection, open_connection
from klineagent.cli.remote.options import JSON, complete_intervals, complete_symbols, to_an_agent
from klineagent.cli.remote.snapshot import coverage_pages
from klineagent.cli.remote.watch import watch_agent
from klineagent.cli.running import run
from klineagent.cli.tables import wide_console
from klineagent.config.converters import WILDCARDS, to_intervals
from klineagent.core.errors import AgentRefused, ConfigError, InvalidRequest
from klineagent.series.desired.wire_format import Pattern, Wanted

_Model = TypeVar("_Model", bound=Struct)
_Command = TypeVar("_Command", bound=Callable[..., None])
_Ask = Callable[[AgentConnection], Awaitable[AgentAnswer[_Model]]]

_SUBSCRIPTIONS = "/v1/subscriptions"


def _subscriptions_options(intervals_help: str) -> Callable[[_Command], _Command]:
    """Add the options that `add` and `remove` share: filters of patterns, intervals, dry run."""
    options = (
        click.option(
            "--quote", default="", metavar="USDT", help="Patterns: match only this quote asset."
        ),
        click.option(
            "--contract",
            default="",
            metavar="TYPE",
            help="Patterns: match only contracts of this type, such as PERPETUAL.",
        ),
        click.option(
            "--exclude", multiple=True, metavar="PATTERN", help="Patterns: skip these symbols."
        ),
        click.option(
            "--intervals",
            metavar="1m,5m,...",
            help=intervals_help,
            shell_complete=complete_intervals,
        ),
        click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing."),
    )

    def add_options(command: _Command) -> _Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add_options


@click.command()
@to_an_agent
@JSON
def status(address: Address, *, as_json: bool) -> None:
    """Show the state of a running agent."""
    run(partial(_status, address, as_json=as_json))


async def _status(address: Address, *, as_json: bool) -> None:
    async with open_connection(address) as connection:
        now = await connection.get(Status, "/status")
        feeds = await connection.get(Feeds, "/v1/feeds")
        limits = await connection.get(Limits, "/v1/limits")
        storage = await connection.get(Storage, "/v1/storage")
        wanted = await connection.get(SubscriptionsNow, "/v1/subscriptions")
    if as_json:
        bodies = {
            "status": now.body,
            "feeds": feeds.body,
            "limits": limits.body,
            "storage": storage.body,
            "subscriptions": wanted.body,
        }
        click.echo(msgspec.json.encode({name: Raw(body) for name, body in bodies.items()}))
        return
    _print(
        views.status_view(
            now.value.connection_count,
            len(now.value.symbols),
            feeds=feeds.value,
            limits=limits.value,
            storage=storage.value,
            refused=wanted.value.refused,
        )
    )


@click.command("list")
@click.option(
    "--set", "is_set", is_flag=True, help="List the desired symbols and patterns instead."
)
@to_an_agent
@JSON
def list_(address: Address, *, is_set: bool, as_json: bool) -> None:
    """List the running streams: symbols and intervals."""
    if is_set:
        _ask_and_show(
            address, _get(SubscriptionsNow, _SUBSCRIPTIONS), views.set_view, as_json=as_json
        )
    else:
        _ask_and_show(
            address, _get(Connections, "/connections/list"), views.list_view, as_json=as_json
        )


@click.command()
@click.argument("names", nargs=-1, metavar="[SYMBOL|PATTERN]...")
@_subscriptions_options("Intervals to record, or all.  [default: the agent's --intervals]")
@to_an_agent
@JSON
def add(
    address: Address,
    *,
    names: Sequence[str],
    intervals: str | None,
    dry_run: bool,
    as_json: bool,
    **filters: object,
) -> None:
    """Start recording SYMBOLs, and all symbols that match PATTERNs.

    In a PATTERN, * stands for any characters and ? for one. Quote it: '*USDT', or '*' for the whole
    market. Symbols listed later are recorded as well. Patterns, filters and --dry-run need
    --intervals.
    """
    wanted = _wanted(names, intervals, filters)
    if wanted is not None:
        _change(address, SubscriptionChange(add=wanted), dry_run=dry_run, as_json=as_json)
        return
    if dry_run or not _are_symbols(names, filters):
        raise ConfigError(
            "--intervals is needed with patterns, filters and --dry-run: 1m,5m,... or all"
        )
    run(partial(_add_symbols, address, list(names), as_json=as_json))


async def _add_symbols(address: Address, names: list[str], *, as_json: bool) -> None:
    async with open_connection(address) as connection:
        answer = await connection.command(SymbolsAdded, "POST", "/symbols/add", SymbolsBody(names))
    _show(answer, views.added_view, as_json=as_json)
    if failed := answer.value.summary.failed_symbols:
        raise AgentRefused(f"not added: {', '.join(failed)}")


@click.command()
@click.argument("names", nargs=-1, metavar="[SYMBOL|PATTERN]...", shell_complete=complete_symbols)
@_subscriptions_options("Intervals to stop.  [default: all]")
@to_an_agent
@JSON
def remove(
    address: Address,
    *,
    names: Sequence[str],
    intervals: str | None,
    dry_run: bool,
    as_json: bool,
    **filters: object,
) -> None:
    """Stop recording SYMBOLs, and all symbols that match PATTERNs.

    Write a PATTERN as it was added (see `list --set`): it leaves the desired set. Matching symbols
    that are wanted by name or by another pattern stay.
    """
    change = SubscriptionChange(remove=_wanted(names, intervals or "all", filters) or [])
    run(partial(_remove, address, change, dry_run=dry_run, as_json=as_json))


async def _remove(
    address: Address, change: SubscriptionChange, *, dry_run: bool, as_json: bool
) -> None:
    async with open_connection(address) as connection:
        before = await connection.get(SubscriptionsNow, _SUBSCRIPTIONS)
        answer = await _changed(connection, change, dry_run=dry_run)
    _show(answer, partial(views.removal_view, before.value.unmatched), as_json=as_json)


@click.command()
@click.argument("symbol", default="", shell_complete=complete_symbols)
@click.argument("interval", default="", shell_complete=complete_intervals)
@to_an_agent
@JSON
def coverage(address: Address, *, symbol: str, interval: str, as_json: bool) -> None:
    """Show how complete each series is: what is stored, what is missing, and why.

    With --json, a line holds up to a thousand series.
    """
    wanted = read_symbol(symbol) if symbol else ""
    run(partial(_coverage, address, wanted, interval, as_json=as_json))


async def _coverage(address: Address, symbol: str, interval: str, *, as_json: bool) -> None:
    async with open_connection(address) as connection:
        pages = await coverage_pages(connection, symbol, interval)
    if as_json:
        for page in pages:
            click.echo(page.body)
        return
    series = [each for page in pages for each in page.value.series]
    if not series:
        raise AgentRefused("no such series is running; see `klineagent list`")
    _print(views.coverage_view(series, with_spans=bool(symbol)))
    if not symbol:
        _print(views.audited_view(series))


@click.command()
@click.argument("symbol", shell_complete=complete_symbols)
@click.argument("interval", shell_complete=complete_intervals)
@click.argument("time")
@to_an_agent
@JSON
def why(address: Address, *, symbol: str, interval: str, time: str, as_json: bool) -> None:
    """Explain one candle: where it is, or why it is missing.

    The candle is the one open at TIME: UTC, like 2026-02-01T20:00, or milliseconds since 1970.
    """
    opens = _open_time(interval, time)
    query = {"symbol": read_symbol(symbol), "interval": interval, "open_time": str(opens)}
    _ask_and_show(address, _get(Why, "/v1/why", query), views.why_view, as_json=as_json)


@click.command()
@to_an_agent
@JSON
def limits(address: Address, *, as_json: bool) -> None:
    """Show the exchange's rate limits and how much of each is used."""
    _ask_and_show(address, _get(Limits, "/v1/limits"), exchange_views.limits_view, as_json=as_json)


@click.command()
@to_an_agent
@JSON
def feeds(address: Address, *, as_json: bool) -> None:
    """List the websocket connections to the exchange."""
    _ask_and_show(address, _get(Feeds, "/v1/feeds"), exchange_views.feeds_view, as_json=as_json)


@click.command()
@click.option(
    "--every",
    "every_s",
    default=1.0,
    show_default=True,
    type=FiniteRange(min=0.1),
    metavar="S",
    help="Seconds between updates.",
)
@to_an_agent
def watch(address: Address, *, every_s: float) -> None:
    """Watch a running agent: totals, connections, lagging series, events; q quits.

    Without a terminal, it prints a line per update and event.
    """
    run(partial(watch_agent, address, every_s=every_s, console=wide_console()))


def _are_symbols(names: Sequence[str], filters: Mapping[str, object]) -> bool:
    """Return whether all names are plain symbols, which need no look at the exchange's listings."""
    return not any(filters.values()) and not any(WILDCARDS & set(name) for name in names)


def _wanted(
    names: Sequence[str], intervals: str | None, filters: Mapping[str, Any]
) -> list[Wanted] | None:
    """Make the entries of a `SubscriptionChange`; None without intervals.

    Raises:
        ConfigError: nothing is named, or an interval does not exist.
    """
    if not names and not (filters["quote"] or filters["contract"]):
        raise ConfigError("name a SYMBOL or a PATTERN, or give --quote or --contract")
    if intervals is None:
        return None
    written = _intervals(intervals)
    if _are_symbols(names, filters):
        return [Wanted(symbols=list(names), intervals=written)]
    properties = {**filters, "exclude": list(filters["exclude"])}
    patterns = [name for name in names if WILDCARDS & set(name)] if names else ["*"]
    if any(filters.values()) and len(patterns) < len(names):
        raise ConfigError(
            "--quote, --contract and --exclude are for patterns; use another command for symbols"
        )
    symbols = [name for name in names if name not in patterns]
    return [
        *([Wanted(symbols=symbols, intervals=written)] if symbols else []),
        *(Wanted(match=Pattern(name=each, **properties), intervals=written) for each in patterns),
    ]


def _open_time(interval: str, time: str) -> int:
    """Return the open time, in ms, of the candle open at `time`; agents take only open times.

    Raises:
        ConfigError: the interval does not exist, or the time cannot be read.
    """
    candle = read_interval(interval)
    try:
        open_time = candle.open_at(read_moment(time, field="TIME"))
    except InvalidRequest as error:
        raise ConfigError(str(error)) from error
    if open_time < 0:
        raise ConfigError(f"TIME: the {interval} candle at {time} opens before 1970")
    return open_time


def _intervals(text: str) -> list[str] | Literal["all"]:
    if text.strip() == "all":
        return "all"
    try:
        return [each.value for each in to_intervals(text)]
    except ValueError as error:
        raise ConfigError(f"--intervals: {error}, or all") from error


def _change(address: Address, change: SubscriptionChange, *, dry_run: bool, as_json: bool) -> None:
    ask = partial(_changed, change=change, dry_run=dry_run)
    _ask_and_show(address, ask, views.outcome_view, as_json=as_json)


def _changed(
    connection: AgentConnection, change: SubscriptionChange, *, dry_run: bool
) -> Awaitable[AgentAnswer[SubscriptionOutcome]]:
    query = {"dry_run": "true"} if dry_run else {}
    return connection.command(SubscriptionOutcome, "PATCH", _SUBSCRIPTIONS, change, query=query)


def _get(
    model: type[_Model], path: str, query: Mapping[str, str | int] | None = None
) -> _Ask[_Model]:
    return lambda connection: connection.get(model, path, query=query)


def _ask_and_show(
    address: Address,
    ask: _Ask[_Model],
    view: Callable[[_Model], RenderableType],
    *,
    as_json: bool,
) -> None:
    """Ask the agent, and show its answer."""

    async def ask_and_show() -> None:
        async with open_connection(address) as connection:
            answer = await ask(connection)
        _show(answer, view, as_json=as_json)

    run(ask_and_show)


def _show(
    answer: AgentAnswer[_Model], view: Callable[[_Model], RenderableType], *, as_json: bool
) -> None:
    if as_json:
        click.echo(answer.body)
    else:
        _print(view(answer.value))


def _print(shown: RenderableType) -> None:
    wide_console().print(shown)
