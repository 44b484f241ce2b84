"""`gridctl health`: what is wrong, since when, what it affects, what to do; once, or on a screen that stays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from gridctl.cli.output import OutputOption, emit, note, painted, width_of_terminal, write
from gridctl.errors import UsageError

if TYPE_CHECKING:
    from gridctl.health.reports import HealthReport
    from gridctl.orchestrator.context import GridHome

DIFFERS = 10


def command(
    watching: Annotated[bool, typer.Option("--watch", "-w", help="Stay, and draw it anew; q leaves.")] = False,
    interval: Annotated[
        float, typer.Option("--interval", metavar="SECONDS", min=0.5, max=3600, help="Between two looks with --watch.")
    ] = 2.0,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="End with 10 unless all is well.")] = False,
    output: OutputOption = "table",
) -> None:
    """What is wrong with the grid: since when, why, what it affects, the command that helps; and every error budget.

    Asked of the orchestrator that serves the grid; without one, only what operators took out can be told. What an
    operator did is no fault: `info` does not count for --exit-code. `gridctl help health` tells what states mean.

    Example:
      gridctl health
      gridctl health --watch
      gridctl health --exit-code -o json
    """
    from gridctl.cli.watching import check_interval
    from gridctl.orchestrator.context import current_grid
    from gridctl.orchestrator.health import health_of

    check_interval(interval)
    home = current_grid()
    if watching:
        _watch(home, interval, output)
        return
    report = health_of(home)
    _print(report, output)
    if not report.is_live:
        note("no orchestrator runs, so only what is declared can be told; start one: gridctl up --detach")
    if exit_code and report.verdict != "ok":
        raise typer.Exit(DIFFERS)


def _print(report: HealthReport, output: str) -> None:
    import msgspec

    from gridctl.render.health import PROBLEMS, health_text, problem_items

    if output in ("table", "wide", "markdown"):
        write(health_text(report, output, painted, width_of_terminal()))
    elif output in ("json", "yaml"):
        emit([{}], (), output, kind="Health", single=True, documents=[msgspec.to_builtins(report)])
    else:
        emit(problem_items(report), PROBLEMS, output, kind="Health", documents=report.problems)


def _watch(home: GridHome, interval_s: float, output: str) -> None:
    """Stay on the screen. Raises: UsageError where there is none, UnreachableError where nothing is to be watched."""
    from gridctl.cli.watching import is_watchable, watch
    from gridctl.orchestrator.live_client import client_of
    from gridctl.render.health import health_text

    if not is_watchable() or output not in ("table", "wide"):
        raise UsageError(
            "--watch needs a terminal, and a table",
            where="--watch",
            fix="in a script look again and again: gridctl health --exit-code -o json",
        )
    with client_of(home) as client:
        watch(
            lambda width, _lines: health_text(client.health(), output, painted, width),
            lambda _key: True,
            interval_s,
        )
