"""Options that describe an engine, shared by the commands that make profiles of one, and how they hand one over."""

# No postponed annotations here: typer reads them.

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gridctl.cli.options import names_of
from gridctl.cli.output import note, write, write_file

if TYPE_CHECKING:
    from gridctl.resources import EngineLimits, Profile

DtypeName = Literal["bf16", "fp8", "int8", "w4a16"]


def complete_gpus(incomplete: str) -> list[str]:
    from gridctl.resources import BUILTIN_GPUS

    return [name for name in BUILTIN_GPUS if name.startswith(incomplete)]


def complete_models(incomplete: str) -> list[str]:
    from gridctl.resources.architectures import ARCHITECTURES

    return [name for name in ARCHITECTURES if name.startswith(incomplete)]


def complete_profiles(incomplete: str) -> list[str]:
    from gridctl.manifest.shipped import shipped_profiles

    known = {*shipped_profiles(), *names_of("profile", incomplete)}
    return sorted(name for name in known if name.startswith(incomplete))


GpuOption = Annotated[
    str,
    typer.Option(
        metavar="NAME|FILE", help="GPU type: built in, of the grid, or a Gpu manifest.", autocompletion=complete_gpus
    ),
]
ModelOption = Annotated[
    str,
    typer.Option(
        metavar="NAME|FILE",
        help="Model: built in, of the grid, a Model manifest, or its config.json.",
        autocompletion=complete_models,
    ),
]
DtypeOption = Annotated[DtypeName, typer.Option(metavar="FORMAT", help="Weights: bf16, fp8, int8 or w4a16.")]
TensorOption = Annotated[int, typer.Option("--tensor-parallel", min=1, max=64, help="GPUs a model is split over.")]
DataOption = Annotated[
    int,
    typer.Option("--data-parallel", min=1, max=64, help="Ranks that share a mixture's experts and step together."),
]
CacheOption = Annotated[
    Literal["auto", "fp8"], typer.Option("--kv-cache-dtype", metavar="FORMAT", help="KV cache: auto or fp8.")
]
SequencesOption = Annotated[int, typer.Option("--max-num-seqs", min=1, max=4096, help="Requests in a batch, per rank.")]
BatchedOption = Annotated[
    int, typer.Option("--max-num-batched-tokens", min=1, max=65536, help="Tokens of a step, per rank.")
]
NameOption = Annotated[
    str, typer.Option(metavar="NAME", help="Name of the profile; made from the engine unless given.")
]
OutOption = Annotated[
    Path | None, typer.Option("--out", metavar="FILE", help="Write the manifest here instead of to stdout.")
]


def engine_limits(
    kv_cache_dtype: Literal["auto", "fp8"], max_num_seqs: int, max_num_batched_tokens: int
) -> "EngineLimits":
    from gridctl.resources import EngineLimits

    return EngineLimits(
        max_num_seqs=max_num_seqs, max_num_batched_tokens=max_num_batched_tokens, kv_cache_dtype=kv_cache_dtype
    )


def deliver(profile: "Profile", out: Path | None) -> None:
    """The manifest to stdout or, whole or not at all, to a file."""
    from gridctl.manifest import dump

    text = dump([profile], "yaml")
    if out is None:
        write(text)
        return
    write_file(out, text)
    note(f"wrote {out}; declare it: gridctl apply -f {out}")
