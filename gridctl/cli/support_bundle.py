"""`gridctl support-bundle`: one file for whoever helps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gridctl.cli.options import DryRunOption
from gridctl.cli.output import OutputOption, emit, note
from gridctl.errors import UsageError
from gridctl.render.rows import Column

COLUMNS = (
    Column("part", "part"),
    Column("bytes", "bytes", align="right"),
    Column("about", "about"),
)


def command(
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.zip", help="Where to write it; named by the time unless given.")
    ] = None,
    listen: Annotated[str, typer.Option(metavar="ADDRESS", help="Where requests come in.")] = "127.0.0.1:8080",
    dry_run: DryRunOption = False,
    output: OutputOption = "table",
) -> None:
    """Gather facts, findings, the grid, events, metrics and the log in one ZIP file, and list what is in it.

    Never in it: keys, texts of prompts or answers, values of environment variables. Look through it before you send it.

    Example:
      gridctl support-bundle --out ticket-4711.zip
    """
    from gridctl.orchestrator.support import default_name, gather, write_bundle

    if out is not None and out.suffix.lower() != ".zip":
        raise UsageError(f"{out.name} would be a ZIP file by another name", where="--out", fix=f"{out.stem}.zip")
    parts = gather(listen)
    path = out if out is not None else Path(default_name())
    if not dry_run:
        write_bundle(parts, path)
    rows = [{"part": part.name, "bytes": len(part.content), "about": part.about} for part in parts]
    emit(rows, COLUMNS, output, kind="BundlePartList", name_key="part")
    note(f"{'would write' if dry_run else 'wrote'} {path}; look through it before you send it")
