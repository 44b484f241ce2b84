"""A variant's folder described as the Model resource that `gridctl apply -f` takes.

Sizes come from the files, the architecture from config.json, the quality from the record: a variant that nobody
measured gets none, and so fails every quality floor. Variants that the grid has already are kept beside it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gridctl.artifacts.checkpoint import Checkpoint
from gridctl.artifacts.record import REPORT, UNMEASURED, read_record
from gridctl.errors import InputError
from gridctl.resources.model import Architecture, Dtype, Model, ModelSpec, Variant
from gridctl.resources.resource import Metadata

_GIB = 1 << 30
_DTYPES: dict[str, Dtype] = {
    "float-quantized": "fp8",
    "int-quantized": "int8",
    "pack-quantized": "w4a16",
    "nvfp4-pack-quantized": "w4a16",
}


def described(found: Checkpoint, name: str, variant_name: str, known: Model | None) -> Model:
    """The model with this variant added or replaced. Raises: InputError when config.json lacks a number."""
    record = read_record(found.folder) if (found.folder / REPORT).is_file() else {}
    score = record.get("quality", UNMEASURED)
    variant = Variant(
        name=variant_name,
        dtype=_dtype(found.config),
        quality=float(score) if isinstance(score, int | float) else None,
        weight_gib=max(0.0001, math.ceil(found.total_bytes / _GIB * 10_000) / 10_000),
        lineage=lineage(record),
    )
    if known is None:
        spec = ModelSpec(architecture=architecture(found.config), variants=(variant,), **_context(found.config))
        return Model(metadata=Metadata(name=name), spec=spec)
    kept = tuple(other for other in known.spec.variants if other.name != variant_name)
    spec = ModelSpec(
        architecture=known.spec.architecture, variants=(*kept, variant), max_context=known.spec.max_context
    )
    return Model(metadata=known.metadata, spec=spec)


def lineage(record: Mapping[str, Any]) -> str:
    """How the variant came to be, in one line."""
    request = record.get("request")
    request = request if isinstance(request, dict) else {}
    dropped = request.get("drop_layers") or []
    words = [
        f"scheme {request['scheme']}" if request.get("scheme") else "",
        "LoRA merged" if request.get("merge_lora") else "",
        f"layers {', '.join(map(str, dropped))} dropped" if dropped else "",
        f"pruned {request['prune']}" if request.get("prune") else "",
        f"base {str(record['base'])[:19]}" if record.get("base") else "",
    ]
    return "; ".join(word for word in words if word)


def architecture(config: Mapping[str, Any]) -> Architecture:
    """The numbers of config.json, of its text model where there are several. Raises: InputError."""
    nested = config.get("text_config")
    shape: dict[str, Any] = {**config, **(nested if isinstance(nested, dict) else {})}
    experts = shape.get("num_experts") or shape.get("num_local_experts") or shape.get("n_routed_experts") or 0
    try:
        heads, hidden = int(shape["num_attention_heads"]), int(shape["hidden_size"])
        return Architecture(
            layers=int(shape["num_hidden_layers"]),
            hidden_size=hidden,
            heads=heads,
            kv_heads=int(shape.get("num_key_value_heads") or heads),
            head_dim=int(shape.get("head_dim") or hidden // heads),
            intermediate_size=int((shape.get("moe_intermediate_size") if experts else 0) or shape["intermediate_size"]),
            vocab_size=int(shape["vocab_size"]),
            experts=int(experts),
            experts_per_token=int(shape.get("num_experts_per_tok") or 0) if experts else 0,
            tied_embeddings=bool(shape.get("tie_word_embeddings")),
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise InputError(
            f"config.json does not tell the architecture: {error}", where="config.json", fix="apply the model by hand"
        ) from None


def variant_name_of(folder: Path) -> str:
    """A name for the variant from its record: scheme and what else was done, such as `fp8` or `w4a16-d4`."""
    request = (read_record(folder) if (folder / REPORT).is_file() else {}).get("request")
    request = request if isinstance(request, dict) else {}
    dropped = request.get("drop_layers") or []
    words = [
        str(request.get("scheme") or "bf16").replace(":", "-"),
        "lora" if request.get("merge_lora") else "",
        f"d{len(dropped)}" if dropped else "",
        "pruned" if request.get("prune") else "",
    ]
    return "-".join(word for word in words if word)


def _dtype(config: Mapping[str, Any]) -> Dtype:
    quantization = config.get("quantization_config")
    form = quantization.get("format") if isinstance(quantization, dict) else None
    return _DTYPES.get(str(form), "bf16")


def _context(config: Mapping[str, Any]) -> dict[str, int]:
    found = config.get("max_position_embeddings")
    return {"max_context": found} if type(found) is int and found > 0 else {}
