"""`gridctl cluster`: the common verbs, and register, cordon, drain, uncordon."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from gridctl.cli.kind import kind_app
from gridctl.cli.labels import LabelsOption, parse_labels
from gridctl.cli.options import DryRunOption, complete_names
from gridctl.cli.output import OutputOption
from gridctl.cli.state import add_state_verbs
from gridctl.errors import InputError
from gridctl.resources import Cluster

app = kind_app(Cluster)

_DEPLOYMENT = re.compile(r"^(?P<variant>[^:]+)(?::(?P<replicas>\d+)(?:x(?P<tensor_parallel>\d+))?)?$")


@app.command()
def register(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Unique, for example fr-paris-01-l40s.")],
    site: Annotated[
        str, typer.Option(metavar="NAME", help="The site it stands at.", autocompletion=complete_names("site"))
    ],
    gpu: Annotated[str, typer.Option(metavar="NAME", help="GPU type: gridctl gpu list.")],
    gpus: Annotated[int, typer.Option(help="Number of GPUs.")],
    deploy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL/VARIANT[:REPLICAS[xTP]]",
            help="Serve a variant with REPLICAS engines of TP GPUs each; may be given again.",
        ),
    ] = None,
    usd_per_gpu_hour: Annotated[float | None, typer.Option(help="Price; from the price book unless given.")] = None,
    endpoint: Annotated[
        list[str] | None, typer.Option(metavar="URL", help="Where the engines answer; may be given again.")
    ] = None,
    label: LabelsOption = None,
    dry_run: DryRunOption = False,
    output: OutputOption = "table",
) -> None:
    """Add one cluster of GPUs to a site.

    Example:
      gridctl cluster register fr-lyon-01-gpu --site fr-lyon-01 --gpu l40s --gpus 4 --deploy llama-3.1-8b/fp8:4x1
    """
    from gridctl.cli.register import register_one

    spec: dict[str, object] = {
        "site": site,
        "gpu": gpu,
        "gpus": gpus,
        "deployments": [parse_deployment(text) for text in deploy or ()],
        "usd_per_gpu_hour": usd_per_gpu_hour,
        "endpoints": list(endpoint or ()),
    }
    register_one(Cluster, name, parse_labels(label), spec, output, dry_run=dry_run)


def parse_deployment(text: str) -> dict[str, object]:
    """`MODEL/VARIANT[:REPLICAS[xTP]]` as the fields of a deployment. Raises: InputError.

    >>> parse_deployment("llama-3.1-8b/fp8:2x4")
    {'variant': 'llama-3.1-8b/fp8', 'replicas': 2, 'tensor_parallel': 4}
    """
    match = _DEPLOYMENT.match(text)
    if match is None:
        raise InputError(
            f"not a deployment: {text!r}",
            where="--deploy",
            fix="write MODEL/VARIANT[:REPLICAS[xTP]], for example llama-3.1-8b/fp8:2x4",
        )
    return {
        "variant": match["variant"],
        "replicas": int(match["replicas"] or 1),
        "tensor_parallel": int(match["tensor_parallel"] or 1),
    }


add_state_verbs(app, Cluster)
