"""Whether a model's folder is what its config.json says: headers, index, and for quantised ones codes and scales.

Must not judge quality: a sound file may hold a bad model.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gridctl.artifacts.checkpoint import Checkpoint, read_checkpoint
from gridctl.artifacts.lora import read_floats
from gridctl.errors import InputError, raise_all

_CODES = (".weight_packed", ".weight")
_QUANTIZED = ("I8", "F8_E4M3", "I32", "U8")


def verify(folder: Path) -> Checkpoint:
    """Check a folder; the model as read. Raises: InputError with everything that is wrong."""
    found = read_checkpoint(folder)
    quantization = found.config.get("quantization_config") or {}
    if not isinstance(quantization, dict):
        raise InputError("quantization_config is no object", where=str(folder / "config.json"))
    errors = []
    if quantization.get("sparsity_config") or found.config.get("sparsity_config"):
        errors.append(InputError("sparsity_config is there: vLLM refuses it", where=str(folder / "config.json")))
    tensors = found.tensors
    scales = [name for name in tensors if name.endswith(".weight_scale")]
    for name in scales:
        module = name.removesuffix(".weight_scale")
        shard, scale = tensors[name]
        codes = next((tensors[module + end][1] for end in _CODES if module + end in tensors), None)
        if codes is None or codes.dtype not in _QUANTIZED or codes.shape[:1] != scale.shape[:1]:
            errors.append(InputError(f"{name!r} scales no codes of as many rows", where=str(folder / shard)))
            continue
        if scale.dtype in ("F32", "F16", "BF16") and not np.all(read_floats(found.shards[shard], name) > 0):
            errors.append(InputError(f"{name!r} holds scales that are not above 0", where=str(folder / shard)))
    if quantization and not scales:
        errors.append(InputError("config.json says quantised, and no tensor is", where=str(folder)))
    if scales and not quantization:
        errors.append(InputError("tensors are quantised, and config.json does not say so", where=str(folder)))
    raise_all(errors)
    return found
