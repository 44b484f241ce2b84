"""Whether a model's folder is what its config.json says, and whether engines can fuse and share out what is in it.

Headers, index, codes, scales, `ignore`, fusion, tensor parallelism. Must not judge quality: a sound file may hold a bad
model.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gridctl.artifacts.checkpoint import CONFIG, Checkpoint, read_checkpoint
from gridctl.artifacts.fusing import Matrix, uneven_cuts, unlike_parts
from gridctl.artifacts.lora import read_floats
from gridctl.artifacts.pruning import LAYER
from gridctl.artifacts.safetensors import Mapped, Tensor
from gridctl.artifacts.schemes import is_matched, is_pattern
from gridctl.errors import InputError, raise_all

_CODES = (".weight_packed", ".weight")
_FORMS = {
    "float-quantized": ("F8_E4M3",),
    "int-quantized": ("I8",),
    "pack-quantized": ("I32",),
    "nvfp4-pack-quantized": ("U8",),
}
"""What holds the codes in each format of compressed-tensors."""
_PACKED = {"I32": 8, "U8": 2}
"""4-bit codes in an element."""


def verify(folder: Path, tensor_parallel: int = 1) -> Checkpoint:
    """Check a folder; the model as read. Raises: InputError with everything that is wrong."""
    found = read_checkpoint(folder)
    quantization = found.config.get("quantization_config") or {}
    config = str(folder / CONFIG)
    if not isinstance(quantization, dict):
        raise InputError("quantization_config is no object", where=config)
    errors = []
    if quantization.get("sparsity_config") or found.config.get("sparsity_config"):
        errors.append(InputError("sparsity_config is there: vLLM refuses it", where=config))
    matrices: dict[str, Matrix] = {}
    for module, matrix, words in _matrices(found):
        matrices[module] = matrix
        errors += [InputError(word, where=str(folder / found.tensors[name][0])) for name, word in words]
    is_any = any(matrix.form for matrix in matrices.values())
    if quantization and not is_any:
        errors.append(InputError("config.json says quantised, and no tensor is", where=str(folder)))
    if is_any and not quantization:
        errors.append(InputError("tensors are quantised, and config.json does not say so", where=str(folder)))
    if is_any and quantization:
        errors += [InputError(word, where=config) for word in _disagreements(quantization, matrices)]
    errors += [
        InputError(word, where=str(folder), fix="quantise all of them, or --ignore 're:.*(q|k|v)_proj$' and the like")
        for word in unlike_parts(matrices)
    ]
    if tensor_parallel > 1:
        errors += [
            InputError(
                word,
                where="--tensor-parallel",
                fix="use another N; where it cuts groups, optimise with --ignore 're:.*down_proj$'",
            )
            for word in uneven_cuts(matrices, found.config, tensor_parallel)
        ]
    raise_all(errors)
    return found


def _matrices(found: Checkpoint) -> Iterator[tuple[str, Matrix, list[tuple[str, str]]]]:
    """Linear layers, and what is wrong with their codes and scales: (tensor, words)."""
    tensors = found.tensors
    for name, (_shard, tensor) in tensors.items():
        module, _, last = name.rpartition(".")
        if last == "weight_scale":
            yield _quantized(found, module)
        elif last == "weight" and f"{module}.weight_scale" not in tensors and len(tensor.shape) == 2:
            rows, columns = tensor.shape
            yield module, Matrix(module, rows, columns, None), []


def _quantized(found: Checkpoint, module: str) -> tuple[str, Matrix, list[tuple[str, str]]]:
    tensors, name = found.tensors, f"{module}.weight_scale"
    shard, scale = tensors[name]
    codes = next((tensors[module + end][1] for end in _CODES if module + end in tensors), None)
    form = next((form for form, dtypes in _FORMS.items() if codes is not None and codes.dtype in dtypes), None)
    if codes is None or form is None or len(codes.shape) != 2 or codes.shape[:1] != scale.shape[:1]:
        return module, Matrix(module, 0, 0, "codes"), [(name, f"{name!r} scales no codes of as many rows")]
    rows, columns = codes.shape[0], codes.shape[1] * _PACKED.get(codes.dtype, 1)
    words = []
    groups = scale.shape[1] if len(scale.shape) == 2 else 1
    shape = tensors.get(f"{module}.weight_shape")
    if codes.dtype == "I32":
        told = _integers(found, shape) if shape else ()
        if len(told) != 2 or told[0] != rows or not columns - 8 < told[1] <= columns:
            words.append((name, f"{module + '.weight_shape'!r} does not tell the shape of {rows} × {columns} codes"))
        else:
            columns = told[1]
    if form == "nvfp4-pack-quantized" and f"{module}.weight_global_scale" not in tensors:
        words.append((name, f"{module + '.weight_global_scale'!r} is missing"))
    if not groups or columns % groups:
        words.append((name, f"{name!r}: {groups} scales of a row do not share out {columns} columns"))
    if not _is_positive(found, shard, scale):
        words.append((name, f"{name!r} holds scales that are not above 0"))
    group = columns // groups if groups > 1 else 0
    return module, Matrix(module, rows, columns, form, group), words


def _is_positive(found: Checkpoint, shard: str, scale: Tensor) -> bool:
    if scale.dtype in ("F32", "F16", "BF16"):
        return bool(np.all(read_floats(found.shards[shard], scale.name) > 0))
    data = Mapped(found.shards[shard]).bytes_of(scale.start, scale.end)
    # E4M3: no sign, neither of the codes that are no numbers. A block of zeros may have a scale of zero.
    return scale.dtype != "F8_E4M3" or bool(np.all(np.frombuffer(data, np.uint8) < 0x7F))


def _integers(found: Checkpoint, place: tuple[str, Tensor]) -> tuple[int, ...]:
    shard, tensor = place
    width = {"I64": "<i8", "I32": "<i4"}.get(tensor.dtype)
    if width is None:
        return ()
    data = Mapped(found.shards[shard]).bytes_of(tensor.start, tensor.end)
    return tuple(int(number) for number in np.frombuffer(data, width))


def _disagreements(quantization: dict[str, Any], matrices: dict[str, Matrix]) -> Iterator[str]:
    """Where config.json and the tensors say different things, for the formats known here."""
    if quantization.get("quant_method") != "compressed-tensors":
        return
    groups = quantization.get("config_groups")
    groups = [group for group in groups.values() if isinstance(group, dict)] if isinstance(groups, dict) else []
    forms = {str(group.get("format") or quantization.get("format")) for group in groups}
    ignored = [pattern for pattern in quantization.get("ignore") or [] if isinstance(pattern, str)]
    for pattern in ignored:
        if not is_pattern(pattern):
            yield f"`ignore` holds {pattern[:60]!r}, which is no pattern"
            return
    is_all = any(group.get("targets") == ["Linear"] for group in groups)
    for module, matrix in matrices.items():
        is_ignored = any(is_matched(module, pattern) for pattern in ignored)
        if matrix.form and is_ignored:
            yield f"{module} is quantised, and `ignore` says that it is not"
        elif matrix.form and matrix.form not in forms and forms <= set(_FORMS):
            yield f"{module} is {matrix.form}, config.json says {', '.join(sorted(forms))}"
        elif is_all and not matrix.form and not is_ignored and module.endswith("_proj") and LAYER.match(module):
            yield f"{module} is not quantised, and neither does `ignore` name it"
