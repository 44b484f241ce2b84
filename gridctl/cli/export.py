"""`gridctl export`: the grid as manifests that apply again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal, cast, get_args

import typer

from gridctl.cli.options import complete_kinds
from gridctl.cli.output import write
from gridctl.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from gridctl.resources import Resource

ExportFormat = Literal["yaml", "json", "jsonl", "csv"]
EXPORT_FORMATS: tuple[str, ...] = get_args(ExportFormat)


def command(
    kind: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KIND]...", help="Kinds; all unless given.", autocompletion=complete_kinds),
    ] = None,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FORMAT", help="yaml, json, jsonl, or csv for one kind.")
    ] = "yaml",
) -> None:
    """Print the grid as manifests: canonical, defaults left out, ready for apply.

    Example:
      gridctl export > grid.yaml
      gridctl export site -o csv > sites.csv
    """
    write(export_text(kind or (), output))


def export_text(words: Sequence[str], output: str) -> str:
    """The manifests of the kinds named (all when none is). Raises: UsageError, NotFoundError."""
    from gridctl.manifest import dump
    from gridctl.orchestrator.context import current_grid
    from gridctl.orchestrator.resources import kind_or_fail
    from gridctl.resources import KINDS

    if output not in EXPORT_FORMATS:
        near = did_you_mean(output, EXPORT_FORMATS)
        fix = f"did you mean -o {near}?" if near else f"one of: {', '.join(EXPORT_FORMATS)}"
        raise UsageError(f"export does not write {output!r}", where="-o/--output", fix=fix)
    kinds = [kind_or_fail(word) for word in words] or list(KINDS.values())
    if output == "csv" and len(kinds) != 1:
        raise UsageError("a CSV file holds one kind", where="-o csv", fix="name it: gridctl export site -o csv")
    with current_grid().open_registry() as registry:
        stored = registry.all()
    resources: list[Resource] = [one.resource for kind in kinds for one in stored if type(one.resource) is kind]
    return dump(resources, cast("ExportFormat", output))
