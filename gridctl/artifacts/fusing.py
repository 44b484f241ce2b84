"""What an engine fuses or cuts when it loads a model, and what that asks of the files.

Engines join q, k and v, and gate and up, into one matrix, and a layer's experts into one kernel: the parts must be
stored alike, all quantised or none. With tensor parallelism every rank takes a part of each matrix: of the rows where
outputs are shared out (q, k, v, gate, up), of the columns where inputs are (o, down), and then a rank's columns must
hold whole groups of scales. Source: vLLM 0.33, `compressed_tensors` and its linear layers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

FUSED = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"), ("q_a_proj", "kv_a_proj_with_mqa"))
ROW_SHARED = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "q_b_proj", "kv_b_proj", "w1", "w3")
COLUMN_SHARED = ("o_proj", "down_proj", "w2")
_EXPERT = re.compile(r"^(?P<before>.+\.experts)\.\d+\.[^.]+$")


@dataclass(frozen=True, slots=True)
class Matrix:
    """A linear layer as stored: its (rows, columns), and the columns of one scale (0: no groups). `form` is the format
    it is quantised in, None when it is not."""

    module: str
    rows: int
    columns: int
    form: str | None
    group: int = 0

    @property
    def last(self) -> str:
        """The module's own name."""
        return self.module.rpartition(".")[2]


def unlike_parts(matrices: Mapping[str, Matrix]) -> Iterator[str]:
    """What an engine fuses and the files store differently, in words."""
    for module, matrix in matrices.items():
        before, _, last = module.rpartition(".")
        for parts in FUSED:
            if last != parts[0]:
                continue
            others = [matrices[f"{before}.{part}"] for part in parts[1:] if f"{before}.{part}" in matrices]
            odd = [other.last for other in others if (other.form, other.group) != (matrix.form, matrix.group)]
            if odd:
                yield (
                    f"{before}: {', '.join(parts)} are one matrix to an engine, and {odd[0]} is"
                    f" {_told(matrices[f'{before}.{odd[0]}'])} while {last} is {_told(matrix)}"
                )
    seen: dict[str, Matrix] = {}
    for module, matrix in matrices.items():
        expert = _EXPERT.match(module)
        if expert and (first := seen.setdefault(expert["before"], matrix)).form != matrix.form:
            yield f"{module} is {_told(matrix)} while {first.module} is {_told(first)}: experts must be stored alike"
            seen[expert["before"]] = matrix


def uneven_cuts(matrices: Mapping[str, Matrix], config: Mapping[str, Any], ranks: int) -> Iterator[str]:
    """What `ranks` engines in tensor parallel cannot share out, in words."""
    nested = config.get("text_config")
    shape = {**config, **(nested if isinstance(nested, dict) else {})}
    heads, kv_heads = shape.get("num_attention_heads"), shape.get("num_key_value_heads")
    if type(heads) is int and heads % ranks:
        yield f"{heads} attention heads cannot be shared out to {ranks} ranks"
    if type(kv_heads) is int and kv_heads > 0 and kv_heads % ranks and ranks % kv_heads:
        yield f"{kv_heads} KV heads can neither be shared out to {ranks} ranks nor repeated on them"
    said: set[tuple[str, int, int]] = set()
    for matrix in matrices.values():
        word = _uneven(matrix, ranks, type(kv_heads) is int and ranks % kv_heads == 0)
        key = (matrix.last, matrix.rows, matrix.columns)
        if word and key not in said:
            said.add(key)
            yield f"{matrix.module} ({matrix.rows} × {matrix.columns}): {word}"


def _uneven(matrix: Matrix, ranks: int, may_repeat: bool) -> str | None:
    if matrix.last in ROW_SHARED and matrix.rows % ranks and not (may_repeat and matrix.last in ("k_proj", "v_proj")):
        return f"its rows cannot be shared out to {ranks} ranks"
    if matrix.last in COLUMN_SHARED:
        if matrix.columns % ranks:
            return f"its columns cannot be shared out to {ranks} ranks"
        if matrix.group and matrix.columns // ranks % matrix.group:
            return f"{matrix.columns // ranks} columns of a rank are not whole groups of {matrix.group}"
    return None


def _told(matrix: Matrix) -> str:
    return (
        "not quantised"
        if matrix.form is None
        else f"{matrix.form}{f' in groups of {matrix.group}' if matrix.group else ''}"
    )
