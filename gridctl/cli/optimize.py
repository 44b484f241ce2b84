"""`gridctl model optimize`: variants made from a model's files.

Parses, calls `artifacts`, prints. What needs text is asked for, cut into tokens and looked for in another Python before
the long work begins.
"""

# No postponed annotations here: typer reads them.

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gridctl.cli.calibrating import Calibration, calibrated
from gridctl.cli.measuring import (
    BaseQualityOption,
    LengthOption,
    Measuring,
    PythonOption,
    QualityTextOption,
    TokensOption,
    Yardstick,
    prepare,
    take,
)
from gridctl.cli.options import DryRunOption
from gridctl.cli.output import OutputOption, emit, note, progress
from gridctl.errors import ConflictError, InputError, UsageError, did_you_mean
from gridctl.render.rows import Column

if TYPE_CHECKING:
    from gridctl.artifacts.checkpoint import Checkpoint
    from gridctl.artifacts.variant import Request, VariantPlan

SCHEME_NAMES = ("fp8", "int8-w8a8", "w4a16")
DELEGATED_NAMES = ("gptq-w4a16", "gptq-w8a8", "awq-w4a16", "nvfp4", "nvfp4a16", "sparsegpt-50", "sparsegpt-2:4")
COLUMNS = (
    Column("name", "tensor"),
    Column("bytes_in", "bytes in", align="right"),
    Column("bytes_out", "bytes out", align="right"),
    Column("weight_error", "weight error", align="right"),
)


def _complete_scheme(incomplete: str) -> list[str]:
    return [name for name in (*SCHEME_NAMES, *DELEGATED_NAMES) if name.startswith(incomplete)]


def optimize(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="The model's folder: config.json and safetensors.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the variant goes; must not exist.")],
    scheme: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help=f"Quantise: {', '.join(SCHEME_NAMES)}; by llm-compressor: {', '.join(DELEGATED_NAMES)}.",
            autocompletion=_complete_scheme,
        ),
    ] = "",
    merge_lora: Annotated[Path | None, typer.Option(metavar="DIR", help="Merge this LoRA adapter first.")] = None,
    drop_layers: Annotated[
        str,
        typer.Option(
            metavar="N,N-M|auto=K", help="Leave these layers out, counted from 0, or the K of least influence."
        ),
    ] = "",
    prune: Annotated[
        str, typer.Option(metavar="HOW", help="Zero weights of each row: magnitude=0.2, wanda=0.4 or 2:4.")
    ] = "",
    calibration_text: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Text like your traffic, or token numbers (.jsonl), that auto=K, wanda"
            " and llm-compressor see the model on.",
        ),
    ] = None,
    activations: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Norms of each matrix's inputs, MODULE.input_norm; for wanda.")
    ] = None,
    ignore: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Leave these modules as they are: a name, or re:….")
    ] = None,
    accept_quality_loss: Annotated[
        bool, typer.Option("--accept-quality-loss", help="Do what is known to make models much worse.")
    ] = False,
    quality_text: QualityTextOption = None,
    text_tokens: TokensOption = 4096,
    window: LengthOption = 512,
    base_quality: BaseQualityOption = 1.0,
    python: PythonOption = None,
    threads: Annotated[int, typer.Option(min=0, max=256, help="Threads; 0 for one per core, at most 8.")] = 0,
    dry_run: DryRunOption = False,
    output: OutputOption = "table",
) -> None:
    """Make a variant of a model: quantised, merged, with fewer layers, pruned, or all of these in one pass.

    The source is streamed, never loaded. The result is a folder that vLLM and transformers load. The same command goes
    on where it was stopped. Weight errors are relative to the merged weights. Quality is measured with --quality-text,
    and else unmeasured, which fails every quality floor of the router. See gridctl help model.

    Example:
      gridctl model optimize models/llama --out models/llama-fp8 --scheme fp8
      gridctl model optimize models/llama --out models/llama-shop --merge-lora shop/ --scheme w4a16
      gridctl model optimize models/llama --out models/small --drop-layers auto=4 --calibration-text traffic.txt
    """
    from gridctl.artifacts.checkpoint import read_checkpoint

    calibration = Calibration(calibration_text, text_tokens, window, python)
    patterns = tuple(ignore or ())
    _check_patterns(patterns)
    if scheme in DELEGATED_NAMES:
        if merge_lora or drop_layers or prune or activations:
            raise UsageError(
                "llm-compressor's schemes are not combined with other changes in one command",
                where=f"--scheme {scheme}",
                fix="make the merged or smaller model first, then give it as SRC",
            )
        yardstick = Yardstick(quality_text, text_tokens, window, base_quality, python)
        _delegate(source, out, scheme, patterns, calibration, yardstick, accept_quality_loss, dry_run, output)
        return
    request = _request(scheme, merge_lora, prune, activations, patterns)
    found = read_checkpoint(source)
    count = _count(drop_layers)
    request = _with_layers(request, drop_layers, count)
    _consent(found, request, count or len(request.drop), is_accepted=accept_quality_loss)
    if out.exists() or out.is_symlink():
        raise InputError("the target exists already", where=str(out), fix="remove it, or give another --out")
    yardstick = Yardstick(quality_text, text_tokens, window, base_quality, python)
    measuring = prepare(yardstick, found, is_quantized=bool(scheme)) if quality_text else None
    request, kept = calibrated(found, request, count, calibration, out, dry_run=dry_run)
    rows = _made_from(kept, found, request, out, threads or min(8, os.cpu_count() or 1), dry_run)
    if not dry_run:
        _told(source, found, out, measuring)
    emit(rows, COLUMNS, output, kind="OptimizedTensorList")


def _made_from(
    kept: Path | None, found: "Checkpoint", request: "Request", out: Path, threads: int, dry_run: bool
) -> list[dict[str, str | int | float | None]]:
    """`_made`; `kept`, the file of what was seen, goes once it is of no more use."""
    try:
        rows = _made(found, request, out, threads, dry_run)
    except ConflictError:
        raise  # what was seen is the other process's, too
    except InputError:
        if kept is not None:
            kept.unlink(missing_ok=True)
        raise
    if not dry_run and kept is not None:
        kept.unlink(missing_ok=True)
    return rows


def _made(
    found: "Checkpoint", request: "Request", out: Path, threads: int, dry_run: bool
) -> list[dict[str, str | int | float | None]]:
    """Carry the request out, or plan it; a row for each tensor that changes."""
    from gridctl.artifacts.optimizing import optimize as run
    from gridctl.artifacts.variant import plan_variant

    plan = plan_variant(found, request)
    if dry_run:
        return _planned(plan, found, threads)
    with progress("optimising", found.total_bytes) as advance:
        done = run(found, plan, request, out, threads=threads, advance=advance)
    for text in plan.notes:
        note(text)
    kept = f", {done.resumed} tensors from before" if done.resumed else ""
    note(f"{out}: {done.bytes_out:,} bytes from {done.bytes_in:,}{kept}")
    return [
        {"name": e.name, "bytes_in": e.bytes_in, "bytes_out": e.bytes_out, "weight_error": float(f"{e.error:.4g}")}
        for e in done.errors
    ]


def _told(source: Path, found: "Checkpoint", out: Path, measuring: Measuring | None) -> None:
    """Measure the quality of what was made, if that was asked, and say what to do next."""
    if measuring is not None:
        try:
            take(measuring, found, out)
        except InputError as error:
            raise InputError(
                f"{out} is made, but its quality was not measured: {error.what}", where=error.where, fix=error.fix
            ) from None
    else:
        note(f"quality: unmeasured; measure it: gridctl model verify {out} --base {source} --quality-text FILE")
    note(f"next: gridctl model variant {out} --model NAME | gridctl apply -f -")


def _request(
    scheme: str, adapter: Path | None, prune: str, activations: Path | None, ignore: tuple[str, ...]
) -> "Request":
    from gridctl.artifacts.pruning import read_pruning
    from gridctl.artifacts.variant import Request

    if scheme and scheme not in SCHEME_NAMES:
        names = (*SCHEME_NAMES, *DELEGATED_NAMES)
        near = did_you_mean(scheme, names)
        raise UsageError(
            f"there is no scheme {scheme[:40]!r}",
            where="--scheme",
            fix=(f"did you mean {near}? " if near else "") + f"one of {', '.join(names)}",
        )
    if activations is not None and not prune:
        raise UsageError("nothing asks for activations", where="--activations", fix="add --prune wanda=0.4")
    return Request(
        scheme=scheme or None,
        adapter=adapter,
        prune=read_pruning(prune) if prune else None,
        activations=activations,
        ignore=ignore,
    )


def _check_patterns(patterns: tuple[str, ...]) -> None:
    from gridctl.artifacts.schemes import is_pattern

    for pattern in patterns:
        if not is_pattern(pattern):
            raise UsageError(f"{pattern[:60]!r} is no pattern", where="--ignore", fix="write 're:.*down_proj$'")


def _count(drop_layers: str) -> int | None:
    from gridctl.artifacts.influence import read_auto

    return read_auto(drop_layers)


def _with_layers(request: "Request", drop_layers: str, count: int | None) -> "Request":
    from dataclasses import replace

    from gridctl.artifacts.pruning import read_layers

    return replace(request, drop=read_layers(drop_layers)) if drop_layers and count is None else request


def _consent(found: "Checkpoint", request: "Request", dropped: int, *, is_accepted: bool) -> None:
    """Refuse what ruins models unless told so. Raises: UsageError."""
    from gridctl.artifacts.pruning import layer_count, quality_warnings

    layers = layer_count(found.config) if dropped else 0
    _accept(quality_warnings(request.prune, dropped, layers), is_accepted=is_accepted)


def _accept(warnings: tuple[str, ...], *, is_accepted: bool) -> None:
    if warnings and not is_accepted:
        raise UsageError("; ".join(warnings), fix="use less, or quantise instead, or add --accept-quality-loss")
    for text in warnings:
        note(f"warning: {text}")


def _delegate(
    source: Path,
    out: Path,
    scheme: str,
    ignore: tuple[str, ...],
    calibration: Calibration,
    yardstick: Yardstick,
    is_accepted: bool,
    dry_run: bool,
    output: str,
) -> None:
    from gridctl.artifacts.checkpoint import read_checkpoint
    from gridctl.artifacts.delegation import command_line, compressor, delegate, read_delegation

    found = read_checkpoint(source)
    delegation = read_delegation(scheme, calibration.text, calibration.tokens, calibration.length, ignore)
    if delegation.scheme.costs:
        _accept((delegation.scheme.costs,), is_accepted=is_accepted)
    other = compressor(calibration.python, scheme)
    if dry_run:
        emit([], COLUMNS, output, kind="OptimizedTensorList")
        note("would run: " + command_line(delegation, found, out, other))
        note("nothing was written")
        return
    measuring = None
    if yardstick.text is not None:
        measuring = prepare(yardstick, found, is_quantized=not scheme.startswith("sparsegpt"))
    with progress("llm-compressor") as advance:
        made = delegate(delegation, found, out, other, advance=advance)
    note(f"{out}: {made.total_bytes:,} bytes from {found.total_bytes:,}, by llm-compressor")
    _told(source, found, out, measuring)
    emit([], COLUMNS, output, kind="OptimizedTensorList")


def _planned(plan: "VariantPlan", found: "Checkpoint", threads: int) -> list[dict[str, str | int | float | None]]:
    from gridctl.artifacts.blocks import memory_bytes

    rows: list[dict[str, str | int | float | None]] = [
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
    for text in plan.notes:
        note(text)
    steps = [step for shard in plan.shards for step in shard.steps]
    note(
        f"{len(steps)} tensors, {found.total_bytes:,} bytes in, {plan.total_size:,} out, buffers of"
        f" {memory_bytes(steps, threads) / 1e6:,.0f} MB with {threads} threads; nothing was written"
    )
    return rows
