"""`klineagent jobs`, and imports that a running agent carries out."""

from __future__ import annotations

from functools import partial

import click
import trio
from click.core import ParameterSource
from rich.console import Console
from rich.status import Status

from klineagent.api.models.jobs import JobAccepted, JobBody, JobList, JobNow
from klineagent.cli.remote.connection import Address, AgentConnection, open_connection
from klineagent.cli.remote.job_views import (
    jobs_view,
    progress_text,
    state_text,
    summary_lines,
    what,
)
from klineagent.cli.remote.options import JSON, to_an_agent
from klineagent.cli.running import run
from klineagent.cli.tables import wide_console
from klineagent.core.errors import AgentRefused, AgentUnreachable

PATH = "/v1/jobs"
ASK_EVERY_S = 1.0
PRINT_EVERY_S = 5.0


@click.group("jobs", invoke_without_command=True)
@to_an_agent
@JSON
@click.pass_context
def jobs(context: click.Context, address: Address, *, as_json: bool) -> None:
    """List the jobs of a running agent; pause, resume and cancel them.

    `klineagent import ... --agent URL` files one.
    """
    if context.invoked_subcommand is None:
        run(partial(_list, address, as_json=as_json))
        return
    # Options may come before the subcommand as well as after it.
    typed = {
        name: value
        for name, value in context.params.items()
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }
    context.default_map = dict.fromkeys(jobs.commands, typed)


async def _list(address: Address, *, as_json: bool) -> None:
    async with open_connection(address) as connection:
        answer = await connection.get(JobList, PATH)
    if as_json:
        click.echo(answer.body)
    else:
        wide_console().print(jobs_view(answer.value.jobs))


_ID = click.argument("job_id", metavar="JOB")


@jobs.command()
@_ID
@to_an_agent
def pause(address: Address, *, job_id: str) -> None:
    """Let JOB rest until it is resumed, also over restarts."""
    _command(address, "POST", f"{PATH}/{job_id}/pause")


@jobs.command()
@_ID
@to_an_agent
def resume(address: Address, *, job_id: str) -> None:
    """Let a paused JOB wait for its turn again."""
    _command(address, "POST", f"{PATH}/{job_id}/resume")


@jobs.command()
@_ID
@to_an_agent
def cancel(address: Address, *, job_id: str) -> None:
    """Cancel JOB; what it has stored stays."""
    _command(address, "DELETE", f"{PATH}/{job_id}")


@jobs.command()
@_ID
@to_an_agent
def follow(address: Address, *, job_id: str) -> None:
    """Show the progress of JOB until it has ended; on Ctrl-C it goes on."""
    _follow_in_the_foreground(address, job_id)


def _command(address: Address, method: str, path: str) -> None:
    async def command() -> None:
        async with open_connection(address) as connection:
            job = (await connection.command(JobNow, method, path, {})).value
        click.echo(f"{job.id} {state_text(job)}")

    run(command)


def import_by_agent(address: Address, asked: JobBody, *, as_json: bool) -> None:
    """Have the agent at `address` import, and follow it; exit code 1 if candles are missing.

    Raises:
        AgentError: the agent does not take the job, or it has failed.
    """

    async def file() -> JobAccepted:
        async with open_connection(address) as connection:
            answer = await connection.command(JobAccepted, "POST", PATH, asked)
        return answer.value

    accepted = run(file)
    if not accepted.saved:
        click.echo("klineagent: the agent keeps no file: the job ends with it", err=True)
    _follow_in_the_foreground(address, accepted.job.id, as_json=as_json)


def _follow_in_the_foreground(address: Address, job_id: str, *, as_json: bool = False) -> None:
    try:
        job = run(partial(_follow, address, job_id, as_json=as_json))
    except KeyboardInterrupt:
        click.echo(
            f"job {job_id} goes on; `klineagent jobs` shows it, `klineagent jobs cancel {job_id}`"
            " ends it",
            err=True,
        )
        raise
    if job.state in {"failed", "cancelled"}:
        raise AgentRefused(f"job {job_id} {state_text(job)}: {job.reason or 'by command'}")
    if not as_json:
        for line in summary_lines(job):
            click.echo(line)
    if job.state == "done_with_holes":
        click.get_current_context().exit(1)


async def _follow(address: Address, job_id: str, *, as_json: bool) -> JobNow:
    console = Console(stderr=True)
    shown: Status | None = None
    if console.is_terminal and not as_json:
        shown = console.status("")
        shown.start()
    try:
        async with open_connection(address) as connection:
            return await _watch(connection, job_id, shown, as_json=as_json)
    finally:
        if shown is not None:
            shown.stop()


async def _watch(
    connection: AgentConnection, job_id: str, shown: Status | None, *, as_json: bool
) -> JobNow:
    printed, printed_at = "", -PRINT_EVERY_S
    while True:
        try:
            answer = await connection.get(JobNow, f"{PATH}/{job_id}")
        except AgentUnreachable as error:
            # It may restart, and the job goes on then.
            text, job, state = f"{error}; asking again", None, "unreachable"
        else:
            job = answer.value
            text, state = f"{what(job)}: {state_text(job)}, {progress_text(job)}", job.state
            if as_json:
                click.echo(answer.body)
        if job is not None and job.ended is not None:
            return job
        now = trio.current_time()
        if shown is not None:
            shown.update(text)
        elif not as_json and (state != printed or now - printed_at >= PRINT_EVERY_S):
            click.echo(text, err=True)
            printed, printed_at = state, now
        await trio.sleep(ASK_EVERY_S)
