"""`gridctl validate`: manifests checked without a grid, a database or a network."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from gridctl.cli.options import FilesOption
from gridctl.cli.output import OutputOption, emit, note
from gridctl.render.rows import Column, Item

_COLUMNS = (Column("kind", "kind"), Column("resources", "resources", align="right"))


def command(
    file: FilesOption,
    whole: Annotated[
        bool | None,
        typer.Option(
            "--whole/--part",
            help="A whole grid, whose references must all resolve, or a part of one. Unless said, a folder is whole.",
        ),
    ] = None,
    output: OutputOption = "table",
) -> None:
    """Check manifests offline: syntax, fields, ranges, duplicates, and the references of a whole grid.

    Example:
      gridctl validate -f mygrid/
      gridctl validate -f sites.yaml --part
      gridctl validate -f gates.yaml
    """
    from gridctl.orchestrator.gating import check_declared_gates
    from gridctl.orchestrator.resources import check_declared, read_files

    declared = read_files(file, sys.stdin.buffer)
    check_declared_gates(declared)
    if any(Path(path).is_dir() for path in file) if whole is None else whole:
        check_declared(declared)
    rows: list[Item] = [
        {"kind": kind, "resources": count} for kind, count in Counter(one.resource.kind for one in declared).items()
    ]
    emit(rows, _COLUMNS, output, kind="ValidationList", name_key="kind")
    note("1 resource is valid" if len(declared) == 1 else f"{len(declared)} resources are valid")
