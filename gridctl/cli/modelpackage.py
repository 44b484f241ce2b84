"""`gridctl model package`: a model's folder as an artefact that registries keep."""

# No postponed annotations here: typer reads them.

from pathlib import Path
from typing import Annotated

import typer

from gridctl.cli.options import DryRunOption
from gridctl.cli.output import OutputOption, note, progress
from gridctl.cli.transferparts import BaseOption, one_by_one, print_row
from gridctl.errors import UsageError


def package(
    source: Annotated[Path, typer.Argument(metavar="DIR", help="The model's files: *.safetensors, config.json, …")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the package goes: an OCI image layout.")],
    base: BaseOption = None,
    variant: Annotated[str | None, typer.Option(metavar="NAME", help="Name of the variant, kept with it.")] = None,
    recipe: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="JSON with name, version, parameters: how sites make it from --base."),
    ] = None,
    dry_run: DryRunOption = False,
    output: OutputOption = "table",
) -> None:
    """Package a model's folder as an OCI artefact of the CNCF ModelPack specification.

    Files are linked, not copied, where the disk allows. Pickles and symbolic links are refused; hidden files stay.
    With --base, what gridctl model optimize made of that base takes its recipe along: sites then make it themselves.

    Example:
      gridctl model package llama-fp8/ --out llama-fp8.package --variant fp8 --base llama.package
    """
    from gridctl import __version__
    from gridctl.artifacts.manifest import BASE, RECIPE, TOOL, VARIANT
    from gridctl.artifacts.package import build, load, write_layout
    from gridctl.artifacts.recipe import read_recipe
    from gridctl.artifacts.record import recorded_recipe

    if recipe is not None and base is None:
        raise UsageError("a recipe needs the base it starts from", where="--recipe", fix="add --base DIR")
    annotations = {TOOL: f"gridctl {__version__}"}
    if variant is not None:
        annotations[VARIANT] = variant
    if base is not None:
        annotations[BASE] = load(base).digest
    if recipe is not None:
        annotations[RECIPE] = read_recipe(recipe.read_text(encoding="utf-8"), str(recipe)).text
    elif base is not None:
        found = recorded_recipe(source, load(base))
        if isinstance(found, str):
            note(f"sites cannot make this of the base, and fetch what differs: {found}")
        else:
            annotations[RECIPE] = found.text
    with progress("reading") as advance:
        made = build(source, annotations, advance=one_by_one(advance))
    if not dry_run:
        made = write_layout(made, out)
    row = {
        "digest": made.digest,
        "files": len(made.files),
        "bytes": made.manifest.total_bytes,
        "folder": None if dry_run else str(out),
    }
    print_row(row, output, "ModelPackage")
    if not dry_run:
        note(f"next: gridctl model push HOST/NAME:TAG --from {out}")
