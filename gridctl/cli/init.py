"""`gridctl init`: a new grid folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gridctl.cli.output import note, write


def _complete_examples(incomplete: str) -> list[str]:
    from gridctl.orchestrator.examples import example_names

    return [name for name in example_names() if name.startswith(incomplete)]


def command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new folder; its last part names the grid.")],
    example: Annotated[
        str | None,
        typer.Option(
            metavar="EXAMPLE",
            help="Start from an example: metro, voice-burst, or world (generated).",
            autocompletion=_complete_examples,
        ),
    ] = None,
    sites: Annotated[int | None, typer.Option(min=1, max=50_000, help="Sites of the world example (4400).")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the world example.")] = 1,
    sites_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Build the world example around the sites of this CSV (plain or gzip)."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Move a folder that is in the way aside.")] = False,
) -> None:
    """Create a grid: a folder with manifests, an empty database and a project file. Apply the manifests next.

    Example:
      gridctl init mygrid --example metro
      gridctl init planet --example world --sites 4400 --seed 7
    """
    from gridctl.orchestrator.context import current_grid
    from gridctl.orchestrator.founding import Blueprint, declares_sites, found_grid

    blueprint = Blueprint(example=example, sites=sites, seed=seed, sites_file=sites_file)
    founded = found_grid(Path(name), blueprint, force=force)
    write(f"{founded.home.folder}\n")
    if founded.moved_aside is not None:
        note(f"the folder that was there is now {founded.moved_aside}")
    if founded.context_before is not None:
        note(f"context {founded.name} stood for {founded.context_before}; that grid: gridctl --store FOLDER …")
    folder = f"{name.rstrip('/')}/"
    if founded.forgotten is not None:
        note(f"it is no context: {founded.forgotten.what} ({founded.forgotten.where}); next:")
    elif (chosen := current_grid()).folder == founded.home.folder:
        note(f"grid {founded.name} is the current context; next:")
    else:
        note(f"commands here still work on another grid ({chosen.origin}); next:")
    if founded.forgotten is not None or chosen.folder != founded.home.folder:
        note(f"  cd {folder}")
        folder = "."
    if example is not None and declares_sites(founded.home.folder):
        note(f"  gridctl apply -f {folder}")
        note("  gridctl site list")
    elif example is not None:
        note(f"  {folder.rstrip('/')}/README.md says which grid its files are for, and what to run")
    else:
        note("  gridctl site register NAME --lat LAT --lon LON --country CC --tier edge")
        note("  gridctl help manifests")
