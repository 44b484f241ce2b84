"""Record: what a variant was made of, how far its weights moved and what was measured of it, in a file beside it.

The record's recipe is how a site that holds the base makes the same bytes. It is there only for what follows from the
base and from words (schemes, magnitudes, layers named); adapters and activations are not on the site. Invariant: the
same request and source give the same record, until quality is measured; `quality` is a score or `unmeasured`, and
unmeasured fails every quality floor.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gridctl.artifacts.checkpoint import CONFIG, Checkpoint, read_json
from gridctl.artifacts.contents import file_digest, write_whole
from gridctl.artifacts.package import Package
from gridctl.artifacts.recipe import Recipe, read_recipe
from gridctl.artifacts.rederivation import is_rederivable
from gridctl.artifacts.safetensors import Header, read_header
from gridctl.artifacts.variant import Request, VariantPlan
from gridctl.errors import GridctlError

REPORT = "gridctl-optimize.json"
UNMEASURED = "unmeasured"
DERIVATION = "optimize"
DERIVATION_VERSION = 1


@dataclass(frozen=True, slots=True)
class TensorError:
    """How far a matrix moved: √(Σ error² / Σ w²), against the merged and unpruned weights."""

    name: str
    bytes_in: int
    bytes_out: int
    error: float


def report(source: Checkpoint, plan: VariantPlan, request: Request, errors: tuple[TensorError, ...]) -> dict[str, Any]:
    """What the variant was made of and how far its weights moved. The same for the same request and source."""
    from gridctl import __version__

    recipe = recipe_of(request)
    return {
        "kind": "OptimizedModel",
        "gridctl": __version__,
        "base": origin(source.config, source.shards),
        "request": told(request),
        "recipe": json.loads(recipe.text) if recipe else None,
        "influence": [float(f"{value:.6g}") for value in request.influence] or None,
        "quality": UNMEASURED,
        "bytes_in": source.total_bytes,
        "bytes_out": plan.total_size,
        "notes": list(plan.notes),
        "weight_errors": {error.name: float(f"{error.error:.6g}") for error in errors},
    }


def told(request: Request) -> dict[str, Any]:
    """The request as text: what an adapter's or activations' file held is in its digest."""
    return {
        "scheme": request.scheme,
        "merge_lora": file_digest(request.adapter / "adapter_model.safetensors") if request.adapter else None,
        "drop_layers": list(request.drop),
        "prune": request.prune.text if request.prune else None,
        "activations": file_digest(request.activations) if request.activations else None,
        "ignore": list(request.ignore),
    }


def recipe_of(request: Request) -> Recipe | None:
    """How to make the variant of the base alone; None when it takes more than the base."""
    if request.adapter is not None or request.activations is not None or not is_rederivable(request.ignore):
        return None
    return Recipe(
        DERIVATION,
        DERIVATION_VERSION,
        {
            "scheme": request.scheme,
            "drop_layers": tuple(str(layer) for layer in request.drop),
            "prune": request.prune.text if request.prune else None,
            "ignore": request.ignore,
        },
    )


def origin(config: dict[str, Any], shards: Mapping[str, Header]) -> str:
    """Digest of a model's configuration and headers: two models of one origin have tensors of the same shapes.

    It tells bases apart at no cost; that their weights are the same is for digests of files to say."""
    found = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for shard, header in sorted(shards.items()):
        found.update(f"\n{shard} {header.file_bytes} ".encode())
        with header.path.open("rb") as file:
            found.update(file.read(header.header_bytes))
    return f"sha256:{found.hexdigest()}"


def _origin_of(base: Package) -> str:
    files = {file.name: file.path for file in base.files}
    shards = {name: read_header(path) for name, path in files.items() if name.endswith(".safetensors")}
    return origin(read_json(files[CONFIG]) if CONFIG in files else {}, shards)


def read_record(folder: Path) -> dict[str, Any]:
    """The record of a variant's folder. Raises: NotFoundError, InputError."""
    return read_json(folder / REPORT)


def recorded_recipe(variant: Path, base: Package) -> Recipe | str:
    """The recipe that makes the variant of this base, or why there is none."""
    if not (variant / REPORT).is_file():
        return "it was not made by gridctl model optimize"
    try:
        record = read_record(variant)
        if record.get("recipe") is None:
            return "it takes more than the base (an adapter, activations or calibration)"
        recipe = read_recipe(json.dumps(record["recipe"]), str(variant / REPORT))
        own = _origin_of(base)
    except GridctlError as error:
        return error.what
    if own != record.get("base"):
        return "it was made of another base"
    return recipe


def record_quality(folder: Path, score: float, measured: Mapping[str, object]) -> None:
    """Write the score and what it was measured by into the record, whole or not at all."""
    path = folder / REPORT
    record: dict[str, Any] = read_json(path) if path.is_file() else {"kind": "OptimizedModel"}
    record["quality"] = float(f"{score:.6g}")
    record["measured"] = dict(measured)
    write_whole(path, json.dumps(record, indent=2, sort_keys=True).encode())
