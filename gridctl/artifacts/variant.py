"""What a variant's files will hold, tensor by tensor, before a byte of weights is read.

Decides what happens to each tensor of the source (copied, merged, pruned, quantised), where it goes and what is asked
that cannot be done. Everything that is refused is refused here, so a run that has begun fails only on weights that are
not finite, or on the disk.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gridctl.artifacts.checkpoint import Checkpoint
from gridctl.artifacts.experts import is_fused, parts_of
from gridctl.artifacts.lora import LowRank, read_adapter, read_floats
from gridctl.artifacts.pruning import LAYER, Pruning, layer_count, renamed, without_layers
from gridctl.artifacts.rounding import Floats
from gridctl.artifacts.safetensors import Tensor, layout, read_header
from gridctl.artifacts.schemes import SCHEMES, Scheme, ignored_patterns, is_matched
from gridctl.errors import InputError, UsageError

FLOATS = ("F32", "BF16", "F16")


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be done to a model. `drop` counts layers from 0; `activations` holds the norms Wanda needs;
    `influence` is each layer's, where that decided which were dropped."""

    scheme: str | None = None
    adapter: Path | None = None
    drop: tuple[int, ...] = ()
    prune: Pruning | None = None
    activations: Path | None = None
    ignore: tuple[str, ...] = ()
    influence: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """One tensor of the source and what becomes of it."""

    source: Tensor
    module: str
    outputs: tuple[Tensor, ...]
    scheme: Scheme | None = None
    change: LowRank | None = None
    prune: Pruning | None = None
    norms: Floats | None = None

    @property
    def is_copy(self) -> bool:
        """Whether the bytes stay as they are."""
        return self.scheme is None and self.change is None and self.prune is None


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """One file: its first bytes, where each output goes, and the steps that fill it."""

    name: str
    head: bytes
    places: dict[str, Tensor]
    steps: tuple[Step, ...]

    @property
    def file_bytes(self) -> int:
        """Bytes of the finished file."""
        return max((place.end for place in self.places.values()), default=len(self.head))


@dataclass(frozen=True, slots=True)
class VariantPlan:
    """All files of the variant, its configuration, and what to tell the operator."""

    shards: tuple[ShardPlan, ...]
    config: dict[str, Any]
    notes: tuple[str, ...]

    @property
    def weight_map(self) -> dict[str, str]:
        """Each tensor's file, sorted by name."""
        return dict(sorted((name, shard.name) for shard in self.shards for name in shard.places))

    @property
    def total_size(self) -> int:
        """Bytes of all tensors."""
        return sum(place.size for shard in self.shards for place in shard.places.values())


def plan_variant(source: Checkpoint, request: Request) -> VariantPlan:
    """The plan. Raises: UsageError, InputError."""
    if not (request.scheme or request.adapter or request.drop or request.prune):
        raise UsageError("nothing to do", fix="give --scheme, --merge-lora, --drop-layers or --prune")
    config = copy.deepcopy(source.config)
    _refuse_source(source)
    if request.drop:
        layer_count(config)
        without_layers(config, request.drop)
    changes = read_adapter(request.adapter) if request.adapter else {}
    norms = _norms(source, request)
    scheme = SCHEMES[request.scheme] if request.scheme else None
    taken = {shard: tuple(_parts(header.tensors.values(), source, request)) for shard, header in source.shards.items()}
    names = [tensor.name for tensors in taken.values() for tensor in tensors]
    modules = [name.removesuffix(".weight") for name in names if name.endswith(".weight")]
    ignore = list(ignored_patterns(modules, request.ignore))
    notes: list[str] = []
    shards, used = [], set()
    for shard, tensors in taken.items():
        steps = []
        for tensor in tensors:
            module = tensor.name.removesuffix(".weight")
            used.add(module)
            step = _step(tensor, request, scheme, changes.get(module), norms, ignore, notes)
            if step is not None:
                steps.append(step)
        if steps:
            outputs = [output for step in steps for output in step.outputs]
            head, places = layout(outputs, None if scheme else source.shards[shard].metadata)
            shards.append(ShardPlan(shard, head, places, tuple(steps)))
    for module in changes:
        if module not in used:
            raise InputError(
                f"the adapter changes {module[:80]!r}, which the model does not have", where="--merge-lora"
            )
    if scheme:
        config["quantization_config"] = scheme.config(ignore)
    if request.prune:
        notes.append("zeros are stored like other weights: no engine here runs this model faster for them")
    return VariantPlan(tuple(shards), config, tuple(notes))


def _refuse_source(source: Checkpoint) -> None:
    if source.config.get("quantization_config") or source.config.get("compression_config"):
        raise InputError(
            "the model is quantised already", where=str(source.folder / "config.json"), fix="start from its base"
        )


def _parts(tensors: Iterable[Tensor], source: Checkpoint, request: Request) -> Iterator[Tensor]:
    """The tensors, those that hold all experts taken apart where they are to be quantised."""
    for tensor in tensors:
        if not is_fused(tensor):
            yield tensor
        elif request.scheme:
            yield from parts_of(tensor, source.config)
        elif request.prune:
            raise InputError(
                f"{tensor.name[:80]!r} holds all experts in one tensor, which is not pruned",
                where=str(source.folder),
                fix="add --scheme, which takes them apart, or save the model with a tensor for each expert",
            )
        else:
            yield tensor


def _norms(source: Checkpoint, request: Request) -> Mapping[str, Floats]:
    """Norms of the inputs by module, where the pruning asks for them."""
    if not request.prune or (request.prune.method != "wanda" and request.activations is None):
        return {}
    if request.activations is None:
        raise UsageError(
            "Wanda weighs by activations, and none are given",
            where="--prune wanda",
            fix="give --activations FILE.safetensors: MODULE.input_norm F32 for each matrix",
        )
    header = read_header(request.activations)
    end = ".input_norm"
    return {name.removesuffix(end): read_floats(header, name) for name in header.tensors if name.endswith(end)}


def _step(
    tensor: Tensor,
    request: Request,
    scheme: Scheme | None,
    change: LowRank | None,
    norms: Mapping[str, Floats],
    ignore: list[str],
    notes: list[str],
) -> Step | None:
    name = renamed(tensor.name, request.drop)
    if name is None:
        return None
    same = Tensor(name, tensor.dtype, tensor.shape)
    source_module, module = tensor.name.removesuffix(".weight"), name.removesuffix(".weight")
    if change is not None:
        rows, columns = change.up.shape[0], change.down.shape[1]
        if tensor.shape != (rows, columns) or tensor.dtype not in FLOATS:
            raise InputError(f"the adapter's {source_module!r} is {rows} × {columns}, the model's {tensor.shape}")
    is_matrix = name.endswith(".weight") and len(tensor.shape) == 2 and not module.endswith("norm")
    is_taken = is_matrix and tensor.size > 0 and not any(is_matched(module, pattern) for pattern in ignore)
    if not is_taken:
        return Step(tensor, module, (same,), change=change)
    if tensor.dtype not in FLOATS:
        raise InputError(f"{tensor.name[:80]!r} is {tensor.dtype}: only F32, F16 and BF16 can be changed")
    prune = request.prune if LAYER.match(name) else None
    found = norms.get(source_module) if prune else None
    if prune and prune.method == "wanda" and (found is None or found.shape != (tensor.shape[1],)):
        raise InputError(f"no norms of {tensor.shape[1]} inputs for {source_module!r}", where=str(request.activations))
    rows, columns = tensor.shape
    outputs: tuple[Tensor, ...] = (same,)
    taken = scheme
    if scheme is not None and not scheme.fits(columns):
        ignore.append(module)
        notes.append(f"{module} stays {tensor.dtype}: its {columns} columns are not a multiple of {scheme.group}")
        taken = None
    if taken is not None:
        outputs = taken.outputs(module, rows, columns, tensor.dtype)
    return Step(tensor, module, outputs, taken, change, prune, found)
