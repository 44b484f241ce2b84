"""LoRA adapters as PEFT saves them: read, matched to a model's matrices, ready to merge.

w' = w + scaling · B A, with scaling alpha / r, or alpha / √r with `use_rslora` (arXiv 2106.09685, 2312.03732). What
changes a model in another way (DoRA, embeddings, whole modules saved) is refused, never left out in silence.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gridctl.artifacts.checkpoint import read_json
from gridctl.artifacts.rounding import Floats, widen_bf16
from gridctl.artifacts.safetensors import Header, Mapped, read_header
from gridctl.errors import InputError

_PART = re.compile(r"^(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<side>[AB])(?:\.default)?\.weight$")


@dataclass(frozen=True, slots=True)
class LowRank:
    """A change of one matrix: `up` (rows, rank), `down` (rank, columns)."""

    up: Floats
    down: Floats
    scaling: float


def read_adapter(folder: Path) -> dict[str, LowRank]:
    """The changes by module. Raises: NotFoundError, InputError."""
    config = read_json(folder / "adapter_config.json")
    _refuse(config, folder)
    path = folder / "adapter_model.safetensors"
    if not path.exists() and (folder / "adapter_model.bin").exists():
        raise InputError(
            "the adapter is a pickle, which is never read", where=str(folder), fix="save it with safe_serialization"
        )
    header = read_header(path)
    sides: dict[str, dict[str, Floats]] = {}
    for name in header.tensors:
        part = _PART.match(name)
        if part is None:
            raise InputError(f"tensor {name[:80]!r} is no part of a plain LoRA adapter", where=str(header.path))
        sides.setdefault(part["module"], {})[part["side"]] = read_floats(header, name)
    changes = {}
    for module, found in sides.items():
        up, down = found.get("B"), found.get("A")
        if up is None or down is None or up.ndim != 2 or down.ndim != 2 or up.shape[1] != down.shape[0]:
            raise InputError(f"lora_A and lora_B of {module[:80]!r} do not fit together", where=str(header.path))
        changes[module] = LowRank(up, down, _scaling(config, module, folder))
    if not changes:
        raise InputError("the adapter is empty", where=str(header.path))
    return changes


def _refuse(config: dict[str, Any], folder: Path) -> None:
    where = str(folder / "adapter_config.json")
    if config.get("peft_type") != "LORA":
        raise InputError(f"peft_type is {str(config.get('peft_type'))[:40]!r}; only LORA merges", where=where)
    for key in ("use_dora", "fan_in_fan_out", "modules_to_save", "lora_bias", "alora_invocation_tokens"):
        if config.get(key):
            raise InputError(f"{key} is not supported", where=where, fix="merge this adapter with PEFT first")
    if config.get("bias", "none") != "none":
        raise InputError("the adapter changes biases", where=where, fix="merge this adapter with PEFT first")


def _scaling(config: dict[str, Any], module: str, folder: Path) -> float:
    rank = _pattern(config.get("rank_pattern"), module, config.get("r"))
    alpha = _pattern(config.get("alpha_pattern"), module, config.get("lora_alpha"))
    if not isinstance(rank, int) or rank < 1 or not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise InputError("r and lora_alpha are not numbers", where=str(folder / "adapter_config.json"))
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _pattern(patterns: Any, module: str, otherwise: Any) -> Any:
    for pattern, value in (patterns or {}).items():
        if module == pattern or module.endswith(f".{pattern}"):
            return value
    return otherwise


def read_floats(header: Header, name: str) -> Floats:
    """A tensor as float32. Raises: InputError when it has another dtype or is not finite."""
    tensor = header.tensors[name]
    mapped = Mapped(header)
    data = mapped.bytes_of(tensor.start, tensor.end)
    if tensor.dtype == "BF16":
        values = np.empty(tensor.size // 2, np.float32)
        widen_bf16(np.frombuffer(data, np.uint16), values.view(np.uint32))
    elif tensor.dtype in ("F16", "F32"):
        values = np.frombuffer(data, np.float16 if tensor.dtype == "F16" else np.float32).astype(np.float32)
    else:
        raise InputError(f"tensor {name[:80]!r} is {tensor.dtype}, not a float", where=str(header.path))
    if not np.isfinite(values).all():
        raise InputError(f"tensor {name[:80]!r} is not finite", where=str(header.path))
    return values.reshape(tensor.shape)
