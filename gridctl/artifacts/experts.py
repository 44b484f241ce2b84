"""Experts that a checkpoint holds in one tensor, taken apart into the matrices that engines load quantised.

`….gate_up_proj` (experts, 2 · intermediate, hidden) becomes `….N.gate_proj.weight` and `….N.up_proj.weight`, and
`….down_proj` (experts, hidden, intermediate) becomes `….N.down_proj.weight`, as llm-compressor 0.14 names and cuts
them (`split_fused_moe_experts`). The parts are ranges of the same bytes: nothing is copied. Invariant: a tensor whose
sides do not say which of them is the hidden one is refused, because cut the wrong way it loads and answers nonsense.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gridctl.artifacts.safetensors import Tensor
from gridctl.errors import InputError

_PARTS = {"gate_up_proj": ("gate_proj", "up_proj"), "down_proj": ("down_proj",)}


def is_fused(tensor: Tensor) -> bool:
    """Whether the tensor holds the matrices of several experts."""
    return len(tensor.shape) == 3 and _key(tensor) is not None


def parts_of(tensor: Tensor, config: Mapping[str, Any]) -> Iterator[Tensor]:
    """The matrices (rows, columns) of every expert, in the order of the bytes. Raises: InputError."""
    key = _key(tensor)
    assert key is not None
    _refuse_turned(tensor, key, config)
    experts, rows, columns = tensor.shape
    names = _PARTS[key]
    if rows % len(names):
        raise InputError(f"{tensor.name[:80]!r} has {rows} rows for each expert, which two matrices do not share")
    size = tensor.size // (experts * len(names)) if experts else 0
    at = tensor.start
    for expert in range(experts):
        for name in names:
            whole = tensor.name.replace(key, f"{expert}.{name}").removesuffix(".weight")
            yield Tensor(f"{whole}.weight", tensor.dtype, (rows // len(names), columns), at, at + size)
            at += size


def _key(tensor: Tensor) -> str | None:
    last = tensor.name.removesuffix(".weight").rpartition(".")[2]
    return last if last in _PARTS else None


def _refuse_turned(tensor: Tensor, key: str, config: Mapping[str, Any]) -> None:
    nested = config.get("text_config")
    hidden = config.get("hidden_size", nested.get("hidden_size") if isinstance(nested, dict) else None)
    _, rows, columns = tensor.shape
    side, other = (columns, rows) if key == "gate_up_proj" else (rows, columns)
    if side != hidden or other == hidden:
        raise InputError(
            f"{tensor.name[:80]!r} of shape {list(tensor.shape)} is not (experts, outputs, inputs) with hidden_size"
            f" {hidden}, so its experts cannot be told apart",
            fix="save the model with a tensor for each expert, or leave --scheme out",
        )
