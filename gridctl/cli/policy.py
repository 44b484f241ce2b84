"""`gridctl policy`: the common verbs, and diff."""

from __future__ import annotations

from typing import Annotated

import typer

from gridctl.cli.kind import kind_app
from gridctl.cli.output import OutputOption, emit, note
from gridctl.render.rows import Column, Item
from gridctl.resources import Policy

DIFFERENCES = 10

app = kind_app(Policy)

_COLUMNS = (
    Column("field", "field"),
    Column("before", "before"),
    Column("after", "after"),
    Column("meaning", "what the field means"),
)


def complete_policy(incomplete: str) -> list[str]:
    """Policies of the grid and the built-in algorithms."""
    from gridctl.cli.options import names_of
    from gridctl.resources.policy import ALGORITHMS

    return [
        *names_of("policy", incomplete),
        *(algorithm for algorithm in ALGORITHMS if algorithm.startswith(incomplete)),
    ]


PolicyArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME|FILE", help="A policy of the grid, a manifest, or an algorithm.", autocompletion=complete_policy
    ),
]


@app.command()
def diff(
    before: PolicyArgument,
    after: PolicyArgument,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Exit with 10 when something differs, for pipelines.")
    ] = False,
    output: OutputOption = "table",
) -> None:
    """Compare two policies, field by field, with what each changed field means. Files are not applied.

    A field that one of them does not write has its default. The names of the policies are not compared.

    Example:
      gridctl policy diff default new.yaml
      gridctl policy diff default least-loaded --exit-code -o json
    """
    from gridctl.orchestrator.policies import policy_differences

    found = policy_differences(before, after)
    rows: list[Item] = [
        {"field": one.field, "before": one.before, "after": one.after, "meaning": one.meaning} for one in found
    ]
    emit(rows, _COLUMNS, output, kind="PolicyDifferenceList", name_key="field")
    note(f"{len(rows)} field{' differs' if len(rows) == 1 else 's differ'}" if rows else "no differences")
    if rows and exit_code:
        raise typer.Exit(DIFFERENCES)
