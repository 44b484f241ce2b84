"""`gridctl model optimize` and `gridctl model verify`: variants made from a model's files, and checked.

Parses, calls `artifacts`, prints.
"""

# No postponed annotations here: typer reads them.

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gridctl.cli.options import DryRunOption
from gridctl.cli.output import OutputOption, emit, note, progress
from gridctl.errors import UsageError
from gridctl.render.rows import Column

if TYPE_CHECKING:
    from gridctl.artifacts.checkpoint import Checkpoint
    from gridctl.artifacts.variant import Request, VariantPlan

SCHEME_NAMES = ("fp8", "int8-w8a8", "w4a16")
CALIBRATED = ("gptq", "awq", "sparsegpt", "nvfp4")
COLUMNS = (
    Column("name", "tensor"),
    Column("bytes_in", "bytes in", align="right"),
    Column("bytes_out", "bytes out", align="right"),
    Column("weight_error", "weight error", align="right"),
)


def optimize(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="The model's folder: config.json and safetensors.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the variant goes; must not exist.")],
    scheme: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Quantise: " + ", ".join(SCHEME_NAMES) + ".",
            autocompletion=lambda incomplete: [name for name in SCHEME_NAMES if name.startswith(incomplete)],
        ),
    ] = "",
    merge_lora: Annotated[Path | None, typer.Option(metavar="DIR", help="Merge this LoRA adapter first.")] = None,
    drop_layers: Annotated[str, typer.Option(metavar="N,N-M", help="Leave these layers out, counted from 0.")] = "",
    prune: Annotated[
        str, typer.Option(metavar="HOW", help="Zero weights of each row: magnitude=0.2, wanda=0.4 or 2:4.")
    ] = "",
    activations: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Norms of each matrix's inputs, MODULE.input_norm; for wanda.")
    ] = None,
    ignore: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Leave these modules as they are: a name, or re:….")
    ] = None,
    accept_quality_loss: Annotated[
        bool, typer.Option("--accept-quality-loss", help="Do what is known to make models much worse.")
    ] = False,
    threads: Annotated[int, typer.Option(min=0, max=256, help="Threads; 0 for one per core, at most 8.")] = 0,
    dry_run: DryRunOption = False,
    output: OutputOption = "table",
) -> None:
    """Make a variant of a model: quantised, merged, with fewer layers, pruned, or all of these in one pass.

    The source is streamed, never loaded. The result is a folder that vLLM and transformers load. The same command goes
    on where it was stopped. Weight errors are relative to the merged weights; quality stays unmeasured, and an
    unmeasured variant fails every quality floor of the router.

    Example:
      gridctl model optimize models/llama --out models/llama-fp8 --scheme fp8
      gridctl model optimize models/llama --out models/llama-shop --merge-lora shop/ --scheme w4a16
    """
    from gridctl.artifacts.checkpoint import read_checkpoint
    from gridctl.artifacts.optimizing import optimize as run
    from gridctl.artifacts.variant import plan_variant

    request = _request(scheme, merge_lora, drop_layers, prune, activations, tuple(ignore or ()))
    found = read_checkpoint(source)
    plan = plan_variant(found, request)
    _consent(found, request, is_accepted=accept_quality_loss)
    count = threads or min(8, os.cpu_count() or 1)
    if dry_run:
        _show_plan(plan, found, count, output)
        return
    with progress("optimising", found.total_bytes) as advance:
        done = run(found, plan, request, out, threads=count, advance=advance)
    rows = [
        {"name": e.name, "bytes_in": e.bytes_in, "bytes_out": e.bytes_out, "weight_error": float(f"{e.error:.4g}")}
        for e in done.errors
    ]
    emit(rows, COLUMNS, output, kind="OptimizedTensorList")
    for text in plan.notes:
        note(text)
    kept = f", {done.resumed} tensors from before" if done.resumed else ""
    note(f"{out}: {done.bytes_out:,} bytes from {done.bytes_in:,}{kept}; quality: unmeasured")


def _request(
    scheme: str, adapter: Path | None, layers: str, prune: str, activations: Path | None, ignore: tuple[str, ...]
) -> "Request":
    import re

    from gridctl.artifacts.pruning import read_layers, read_pruning
    from gridctl.artifacts.variant import Request

    if scheme in CALIBRATED:
        raise UsageError(
            f"{scheme} needs calibration or a GPU, and llm-compressor makes it",
            where="--scheme",
            fix="pip install llmcompressor, run its oneshot(), then: gridctl model verify DIR",
        )
    if scheme and scheme not in SCHEME_NAMES:
        raise UsageError(
            f"there is no scheme {scheme[:40]!r}", where="--scheme", fix=f"one of {', '.join(SCHEME_NAMES)}"
        )
    if layers.startswith("auto"):
        raise UsageError(
            "which layers matter least is not known without measuring", where="--drop-layers", fix="name them: 20-23"
        )
    if activations is not None and not prune:
        raise UsageError("nothing asks for activations", where="--activations", fix="add --prune wanda=0.4")
    for pattern in ignore:
        try:
            re.compile(pattern.removeprefix("re:"))
        except re.error as error:
            raise UsageError(f"{pattern[:60]!r} is no pattern: {error}", where="--ignore") from None
    return Request(
        scheme=scheme or None,
        adapter=adapter,
        drop=read_layers(layers) if layers else (),
        prune=read_pruning(prune) if prune else None,
        activations=activations,
        ignore=ignore,
    )


def _consent(found: "Checkpoint", request: "Request", *, is_accepted: bool) -> None:
    """Refuse what ruins models unless told so. Raises: UsageError."""
    from gridctl.artifacts.pruning import layer_count, quality_warnings

    layers = layer_count(found.config) if request.drop else 0
    warnings = quality_warnings(request.prune, len(request.drop), layers)
    if warnings and not is_accepted:
        raise UsageError("; ".join(warnings), fix="use less, or quantise instead, or add --accept-quality-loss")
    for text in warnings:
        note(f"warning: {text}")


def _show_plan(plan: "VariantPlan", found: "Checkpoint", threads: int, output: str) -> None:
    from gridctl.artifacts.blocks import memory_bytes

    rows = [
        {
            "name": step.source.name,
            "bytes_in": step.source.size,
            "bytes_out": sum(place.size for place in step.outputs),
            "weight_error": None,
        }
        for shard in plan.shards
        for step in shard.steps
        if not step.is_copy
    ]
    emit(rows, COLUMNS, output, kind="OptimizedTensorList")
    for text in plan.notes:
        note(text)
    steps = [step for shard in plan.shards for step in shard.steps]
    note(
        f"{len(steps)} tensors, {found.total_bytes:,} bytes in, {plan.total_size:,} out, buffers of"
        f" {memory_bytes(steps, threads) / 1e6:,.0f} MB with {threads} threads; nothing was written"
    )


def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The model's folder.")],
) -> None:
    """Check a model's files: headers, index, codes and scales against config.json.

    Example:
      gridctl model verify models/llama-fp8
    """
    from gridctl.artifacts.verifying import verify as check

    found = check(folder)
    note(f"{folder}: sound; {len(found.tensors)} tensors, {found.total_bytes:,} bytes in {len(found.shards)} files")
