"""`gridctl delete`: resources by kind and name, by selector, or those of a manifest."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from gridctl.cli.options import DryRunOption, SelectorOption, YesOption, complete_get
from gridctl.cli.output import OutputOption
from gridctl.errors import UsageError


def command(
    kind: Annotated[str | None, typer.Argument(metavar="KIND", autocompletion=complete_get)] = None,
    name: Annotated[list[str] | None, typer.Argument(metavar="NAME...", autocompletion=complete_get)] = None,
    file: Annotated[
        list[str] | None,
        typer.Option("--file", "-f", metavar="PATH", help="Delete what these manifests declare."),
    ] = None,
    selector: SelectorOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    output: OutputOption = "table",
) -> None:
    """Delete resources, all of those named or none; refused while something else refers to one of them.

    Example:
      gridctl delete site fr-lyon-01 --dry-run
      gridctl delete -f old.yaml
    """
    from gridctl.cli.kind import remove
    from gridctl.orchestrator.resources import kind_or_fail

    if (kind is None) == (not file):
        raise UsageError("say what to delete", fix="give KIND and NAME, or -f with manifests")
    if kind is not None:
        remove(kind_or_fail(kind), name or (), selector or (), output, dry_run=dry_run, yes=yes)
        return
    if selector:
        raise UsageError("-f and -l both choose", fix="give one of them")
    _delete_declared(file or [], output, dry_run=dry_run, yes=yes)


def _delete_declared(files: list[str], output: str, *, dry_run: bool, yes: bool) -> None:
    from gridctl.cli.changes import emit_deleted
    from gridctl.cli.kind import confirm
    from gridctl.orchestrator import resources as service
    from gridctl.orchestrator.context import current_grid
    from gridctl.resources import key_of

    home = current_grid()
    keys = [key_of(one.resource) for one in service.read_files(files, sys.stdin.buffer)]
    confirm(f"delete {len(keys)} resources", yes=yes or dry_run)
    with home.open_registry() as registry:
        deleted = service.delete(registry, keys, cause="delete -f " + " -f ".join(files), dry_run=dry_run)
    emit_deleted(deleted, output, grid=home.folder, dry_run=dry_run)
