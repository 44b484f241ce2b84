"""`gridctl replay decisions`: a recording's decisions made again, as recorded or under another policy."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from gridctl.cli.output import OutputOption, emit, note, progress
from gridctl.cli.policy import complete_policy
from gridctl.render.rows import Column

COLUMNS = (
    Column("workload", "workload"),
    Column("before", "before"),
    Column("after", "after"),
    Column("requests", "requests", align="right"),
    Column("example", "example", wide=True),
)


def decisions(
    recording: Annotated[str, typer.Argument(metavar="RECORDING", help="The folder that `up --record` wrote.")],
    policy: Annotated[
        str | None,
        typer.Option(
            "--policy",
            metavar="NAME|FILE",
            help="Decide under this policy; by default as recorded.",
            autocompletion=complete_policy,
        ),
    ] = None,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit 10 when any decision differs.")] = False,
    output: OutputOption = "table",
) -> None:
    """Make a recording's decisions again, from the very rows the live router saw.

    As recorded they all come out the same: replay and live share one router. With --policy it shows which requests
    would have gone elsewhere, loads being as they were then. What follows from that, `gridctl replay run` tells.

    Example:
      gridctl replay decisions yesterday.recording
      gridctl replay decisions yesterday.recording --policy new.yaml --exit-code
    """
    from gridctl.orchestrator.policies import policy_of
    from gridctl.orchestrator.redeciding import redecide

    chosen = None if policy is None else policy_of(policy)
    with progress("deciding again") as advance:
        found = redecide(
            recording,
            None if chosen is None else chosen.spec,
            policy_name="as recorded" if chosen is None else chosen.name,
            advanced=advance,
        )
    moves = [msgspec.to_builtins(move) for move in found.moves]
    if output in ("json", "yaml"):
        emit([{"name": recording}], (), output, kind="Redecisions", single=True, documents=[found])
    elif moves or output not in ("table", "wide", "markdown"):
        emit(moves, COLUMNS, output, kind="Redecisions", name_key="example")
    note(
        f"{found.decided:,} decisions of {found.requests:,} requests, {found.policy}:"
        f" {found.same:,} the same, {found.moved:,} elsewhere"
    )
    if exit_code and found.moved:
        raise typer.Exit(10)
