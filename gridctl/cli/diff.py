"""`gridctl diff`: what apply would change, field by field."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from gridctl.cli.options import FilesOption
from gridctl.cli.output import OutputOption, emit, note
from gridctl.render.rows import Column, Item

if TYPE_CHECKING:
    from gridctl.registry import Planned

DIFFERENCES = 10

_COLUMNS = (
    Column("action", "action"),
    Column("kind", "kind"),
    Column("name", "name"),
    Column("path", "field"),
    Column("before", "before"),
    Column("after", "after"),
)


def command(
    file: FilesOption,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Exit with 10 when something differs, for pipelines.")
    ] = False,
    output: OutputOption = "table",
) -> None:
    """Show what apply would create and change, field by field. Nothing is written.

    Example:
      gridctl diff -f mygrid/ --exit-code
    """
    from gridctl.orchestrator import resources as service
    from gridctl.orchestrator.context import current_grid

    home = current_grid()
    declared = service.read_files(file, sys.stdin.buffer)
    with home.open_registry() as registry:
        applied = service.apply(registry, declared, cause="diff", dry_run=True)
    planned = [step for step in applied.planned if step.action != "unchanged"]
    rows = [row for step in planned for row in _rows(step)]
    emit(rows, _COLUMNS, output, kind="DifferenceList")
    note(f"{len(planned)} of {len(declared)} resources differ" if planned else "no differences")
    if planned and exit_code:
        raise typer.Exit(DIFFERENCES)


def _rows(step: Planned) -> list[Item]:
    base = {"action": step.action, "kind": step.resource.kind, "name": step.resource.name}
    if step.action == "create":
        return [{**base, "path": None, "before": None, "after": None}]
    return [{**base, "path": change.path, "before": change.before, "after": change.after} for change in step.diff]
