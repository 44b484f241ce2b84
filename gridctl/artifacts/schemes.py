"""Quantisation schemes: which matrices, what is stored of each, and what config.json then says.

The layouts are those of compressed-tensors 0.19 as vLLM and transformers load them. Never writes `sparsity_config`:
vLLM refuses a model that has one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from gridctl.artifacts.rounding import FP8, INT4, INT8
from gridctl.artifacts.safetensors import Tensor

FORMAT_VERSION = "0.19.0"
"""Of compressed-tensors, whose format the artefacts have."""
ALWAYS_IGNORED = ("lm_head", "re:.*embed_tokens$")
OFTEN_IGNORED = (
    r"re:.*\.(gate|router|shared_expert_gate)$",
    r"re:.*(^|\.)(wte|wpe|embed_in|embed_positions|word_embeddings|position_embeddings)$",
)
"""Routers of experts and embeddings by other names: ignored where a model has them."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """How a matrix (rows, columns) is stored. `group` is the columns of one scale, 0 for all of a row."""

    name: str
    preset: str
    format: str
    code: int
    limit: float
    bits: int
    kind: str
    group: int = 0
    has_activations: bool = True

    def fits(self, columns: int) -> bool:
        """Whether scales divide the row."""
        return columns > 0 and (not self.group or columns % self.group == 0)

    def outputs(self, module: str, rows: int, columns: int, dtype: str) -> tuple[Tensor, ...]:
        """What is stored: codes, scales and, where packed, the shape."""
        scales = Tensor(f"{module}.weight_scale", dtype, (rows, columns // (self.group or columns)))
        if self.code == INT4:
            packed = Tensor(f"{module}.weight_packed", "I32", (rows, columns // 8))
            return packed, scales, Tensor(f"{module}.weight_shape", "I64", (2,))
        return Tensor(f"{module}.weight", "F8_E4M3" if self.code == FP8 else "I8", (rows, columns)), scales

    def config(self, ignore: Sequence[str]) -> dict[str, Any]:
        """The `quantization_config` of config.json."""
        strategy = "group" if self.group else "channel"
        return {
            "config_groups": {
                self.preset: {
                    "format": self.format,
                    "input_activations": self._arguments("token", None, dynamic=True) if self.has_activations else None,
                    "output_activations": None,
                    "targets": ["Linear"],
                    "weights": self._arguments(strategy, self.group or None, dynamic=False),
                }
            },
            "format": self.format,
            "global_compression_ratio": None,
            "ignore": list(ignore),
            "kv_cache_scheme": None,
            "quant_method": "compressed-tensors",
            "quantization_status": "compressed",
            "transform_config": {},
            "version": FORMAT_VERSION,
        }

    def _arguments(self, strategy: str, group: int | None, *, dynamic: bool) -> dict[str, Any]:
        return {
            "actorder": None,
            "block_structure": None,
            "dynamic": dynamic,
            "group_size": group,
            "num_bits": self.bits,
            "observer": None,
            "observer_kwargs": {},
            "scale_dtype": None,
            "strategy": strategy,
            "symmetric": True,
            "type": self.kind,
            "zp_dtype": None,
        }


SCHEMES = {
    "fp8": Scheme("fp8", "FP8_DYNAMIC", "float-quantized", FP8, 448.0, 8, "float"),
    "int8-w8a8": Scheme("int8-w8a8", "W8A8", "int-quantized", INT8, 127.5, 8, "int"),
    "w4a16": Scheme("w4a16", "W4A16", "pack-quantized", INT4, 7.5, 4, "int", 128, has_activations=False),
}


def is_matched(module: str, pattern: str) -> bool:
    """Whether a module's name is the pattern, or `re:` and a regular expression that matches from its start."""
    if pattern.startswith("re:"):
        return re.match(pattern[3:], module) is not None
    return module == pattern


def is_pattern(pattern: str) -> bool:
    """Whether this is a name, or `re:` and a regular expression that can be read."""
    try:
        return not pattern.startswith("re:") or re.compile(pattern[3:]) is not None
    except (re.error, OverflowError, RecursionError):
        return False


def ignored_patterns(modules: Iterable[str], extra: Sequence[str] = ()) -> tuple[str, ...]:
    """What stays as it is: the head and the embeddings, routers where there are some, and what was asked for."""
    names = list(modules)
    often = [pattern for pattern in OFTEN_IGNORED if any(is_matched(name, pattern) for name in names)]
    return (*ALWAYS_IGNORED, *often, *(word for word in extra if word not in ALWAYS_IGNORED))
