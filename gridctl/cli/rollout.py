"""`gridctl rollout`: versions on their way to sites: see them, pause them, let them go on, take them back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from gridctl.cli.options import DryRunOption, ReasonOption
from gridctl.cli.output import OutputOption, emit, note, painted, width_of_terminal, write
from gridctl.errors import ConflictError, UsageError

if TYPE_CHECKING:
    from gridctl.control.rollout_messages import RolloutReport
    from gridctl.rollout.state import Verb

app = typer.Typer(help="Versions of models on their way to sites.", no_args_is_help=True, add_completion=False)

FAILED = 99
COMPLETED = "completed"


def complete_rollouts(incomplete: str) -> list[str]:
    """Names of rollouts; none, and no error, when there is no orchestrator to ask."""
    try:
        from gridctl.orchestrator.context import current_grid
        from gridctl.orchestrator.rollouts import rollouts

        return [one.name for one in rollouts(current_grid()) if one.name.startswith(incomplete)]
    except Exception:
        return []


NameArgument = Annotated[str, typer.Argument(metavar="NAME", autocompletion=complete_rollouts)]
NewestArgument = Annotated[
    str | None, typer.Argument(metavar="[NAME]", help="The newest otherwise.", autocompletion=complete_rollouts)
]


@app.command("list")
def list_(output: OutputOption = "table") -> None:
    """List rollouts, the newest first.

    Example:
      gridctl rollout list
    """
    from gridctl.orchestrator.context import current_grid
    from gridctl.orchestrator.rollouts import rollouts
    from gridctl.render.rollouts import ROLLOUT_COLUMNS, rollout_item

    found = rollouts(current_grid())
    emit([rollout_item(one) for one in found], ROLLOUT_COLUMNS, output, kind="RolloutList")
    if not found:
        note("no rollouts; begin one: gridctl model push REF --to tier=edge")


@app.command()
def status(
    name: NewestArgument = None,
    watching: Annotated[bool, typer.Option("--watch", "-w", help="Stay, and draw it anew; q leaves.")] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until it is over or paused; 99 unless it completed.")
    ] = False,
    interval: Annotated[
        float, typer.Option("--interval", metavar="SECONDS", min=0.5, max=3600, help="Between two looks with --watch.")
    ] = 1.0,
    output: OutputOption = "table",
) -> None:
    """Show a rollout: its phase and why, its last analysis, and where each site is.

    Example:
      gridctl rollout status
      gridctl rollout status llama-v2 --watch
      gridctl rollout status llama-v2 --wait -o json
    """
    from gridctl.orchestrator.context import current_grid
    from gridctl.orchestrator.rollouts import newest, rollout, wait_for

    home = current_grid()
    if watching:
        _watch(name, interval, output)
        return
    found = wait_for(home, name or newest(home), told) if wait else rollout(home, name)
    print_rollout(found, output)
    if wait:
        leave_unless_completed(found)


@app.command()
def pause(name: NameArgument, reason: ReasonOption = None, dry_run: DryRunOption = False) -> None:
    """Begin nothing new: no further site gets the version. Sites that try it go on trying.

    Example:
      gridctl rollout pause llama-v2 --reason 'match tonight'
    """
    _operate(name, "pause", reason, dry_run)


@app.command()
def resume(name: NameArgument, reason: ReasonOption = None, dry_run: DryRunOption = False) -> None:
    """Go on where it was paused. Sites of the wave that failed try again; a soak begins anew.

    Example:
      gridctl rollout resume llama-v2
    """
    _operate(name, "resume", reason, dry_run)


@app.command()
def promote(name: NameArgument, reason: ReasonOption = None, dry_run: DryRunOption = False) -> None:
    """Take the wave as passed, whatever its analysis says, or leave behind the sites that hold it up.

    Example:
      gridctl rollout promote llama-v2 --reason 'idle site, checked by hand'
    """
    _operate(name, "promote", reason, dry_run)


@app.command()
def abort(name: NameArgument, reason: ReasonOption = None, dry_run: DryRunOption = False) -> None:
    """Stop where it stands: sites that have committed the version keep it, nobody else gets it.

    Example:
      gridctl rollout abort llama-v2
    """
    _operate(name, "abort", reason, dry_run)


@app.command()
def undo(
    name: NameArgument,
    as_: Annotated[
        str, typer.Option("--as", metavar="NAME", help="Name of the rollout that takes back one that is over.")
    ] = "",
    reason: ReasonOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Take the version back from every site that has it: each goes back to what it had before.

    A rollout that is over stays as it ended; another one, NAME-undo, takes it back.

    Example:
      gridctl rollout undo llama-v2 --reason 'wrong tokenizer'
    """
    _operate(name, "undo", reason, dry_run, as_)


@app.command()
def history(
    name: NewestArgument = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most this many, the newest.")] = 200,
    output: OutputOption = "table",
) -> None:
    """What happened to a rollout and to each of its sites, when and why; oldest first.

    Example:
      gridctl rollout history llama-v2
    """
    from gridctl.orchestrator.context import current_grid
    from gridctl.orchestrator.rollouts import history as entries_of
    from gridctl.render.rollouts import HISTORY_COLUMNS, history_items

    entries = entries_of(current_grid(), name, limit).items
    emit(history_items(entries), HISTORY_COLUMNS, output, kind="RolloutHistoryList", name_key="time")


@app.command("key")
def key() -> None:
    """Print the public key that sites' agents pin, in PEM: they take no desired state that it has not signed.

    Example:
      gridctl rollout key > release.pub
    """
    from gridctl.orchestrator.context import current_grid
    from gridctl.orchestrator.rollouts import release_key

    write(release_key(current_grid()))


def print_rollout(report: RolloutReport, output: str) -> None:
    """A rollout whole, to stdout."""
    from gridctl.render.rollouts import SITE_COLUMNS, report_item, status_text

    if output in ("table", "wide", "markdown"):
        write(status_text(report, output, painted, width_of_terminal()))
        return
    item = report_item(report)
    if output in ("json", "yaml"):
        emit([item], (), output, kind="Rollout", single=True)
    elif output == "name":
        write(f"{report.name}\n")
    else:
        emit(item["progress"], SITE_COLUMNS, output, kind="RolloutSiteList", name_key="site")  # type: ignore[arg-type]


def told(report: RolloutReport) -> None:
    """A change of a rollout that is waited for."""
    note(f"{report.name}: wave {report.wave} of {report.waves}, {report.phase.replace('_', ' ')}: {report.because}")


def leave_unless_completed(report: RolloutReport) -> None:
    """End the command as a failed gate does, unless the rollout completed."""
    if report.phase != COMPLETED:
        note(f"rollout {report.name} is {report.phase.replace('_', ' ')}: {report.because}")
        raise typer.Exit(FAILED)


def _operate(name: str, verb: Verb, reason: str | None, dry_run: bool, undo_name: str = "") -> None:
    from gridctl.cli.rollingout import check_name
    from gridctl.orchestrator.context import current_grid
    from gridctl.orchestrator.rollouts import operate, rollout
    from gridctl.rollout.machine import refusal_in
    from gridctl.rollout.state import TERMINAL

    if undo_name:
        check_name(undo_name, "--as")
    home = current_grid()
    if dry_run:
        found = rollout(home, name)
        is_undone = verb == "undo" and found.phase in TERMINAL
        if not is_undone and (why := refusal_in(found.phase, verb)) is not None:
            raise ConflictError(
                f"rollout {name} cannot {verb}: {why}",
                where=f"rollout {name}",
                fix=f"see: gridctl rollout status {name}",
            )
        note(f"would {verb} rollout {name}, which is {found.phase.replace('_', ' ')} (dry run: nothing was changed)")
        return
    found = operate(home, name, verb, reason or "", undo_name)
    note(f"rollout {found.name} is {found.phase.replace('_', ' ')}; see: gridctl rollout status {found.name}")


def _watch(name: str | None, interval_s: float, output: str) -> None:
    from gridctl.cli.watching import check_interval, is_watchable, watch
    from gridctl.orchestrator.context import current_grid
    from gridctl.orchestrator.rollouts import newest, rollout
    from gridctl.render.rollouts import status_text

    check_interval(interval_s)
    if not is_watchable() or output not in ("table", "wide"):
        raise UsageError(
            "--watch needs a terminal, and a table",
            where="--watch",
            fix="in a script wait for its end: gridctl rollout status NAME --wait",
        )
    home = current_grid()
    shown = name or newest(home)
    watch(
        lambda width, lines: status_text(rollout(home, shown), output, painted, width, lines),
        lambda _key: True,
        interval_s,
    )
