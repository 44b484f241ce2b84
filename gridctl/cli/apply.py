"""`gridctl apply`: manifests into the registry, all or nothing."""

from __future__ import annotations

import sys

from gridctl.cli.changes import emit_planned
from gridctl.cli.options import DryRunOption, FilesOption, ReasonOption
from gridctl.cli.output import OutputOption, note


def command(
    file: FilesOption, dry_run: DryRunOption = False, reason: ReasonOption = None, output: OutputOption = "table"
) -> None:
    """Create and update resources from manifests: all of them, or on any error none.

    Resources that are not in the manifests stay as they are, and so does the state of a site or cluster that was
    cordoned, drained or taken down, unless the manifest gives it another state.

    Example:
      gridctl apply -f mygrid/
      gridctl apply -f sites.csv -f clusters.yaml --dry-run
    """
    from gridctl.orchestrator import resources as service
    from gridctl.orchestrator.context import current_grid

    home = current_grid()
    declared = service.read_files(file, sys.stdin.buffer)
    cause = "apply -f " + " -f ".join(file) if reason is None else f"apply: {reason}"
    with home.open_registry() as registry:
        applied = service.apply(registry, declared, cause=cause, dry_run=dry_run)
    emit_planned(applied.planned, output, grid=home.folder, dry_run=dry_run)
    for key in applied.kept:
        note(f"{key} keeps the state an operator gave it; to end that: gridctl {key.kind.lower()} uncordon {key.name}")
