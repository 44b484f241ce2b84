"""A Llama of a few hundred weights, drawn here and written as a model's folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.artifacts.conftest import write_safetensors

Arrays = dict[str, np.ndarray]
HIDDEN, HEADS, KV_HEADS, SIZE, INNER, VOCABULARY, LAYERS = 8, 4, 2, 2, 12, 10, 3


def drawn(seed: int = 0) -> Arrays:
    draw = np.random.default_rng(seed)
    arrays = {"model.embed_tokens.weight": draw.normal(size=(VOCABULARY, HIDDEN))}
    shapes = {
        "self_attn.q_proj": (HEADS * SIZE, HIDDEN),
        "self_attn.k_proj": (KV_HEADS * SIZE, HIDDEN),
        "self_attn.v_proj": (KV_HEADS * SIZE, HIDDEN),
        "self_attn.o_proj": (HIDDEN, HEADS * SIZE),
        "mlp.gate_proj": (INNER, HIDDEN),
        "mlp.up_proj": (INNER, HIDDEN),
        "mlp.down_proj": (HIDDEN, INNER),
    }
    for layer in range(LAYERS):
        at = f"model.layers.{layer}"
        arrays[f"{at}.input_layernorm.weight"] = draw.normal(size=HIDDEN)
        arrays[f"{at}.post_attention_layernorm.weight"] = draw.normal(size=HIDDEN)
        arrays |= {f"{at}.{name}.weight": draw.normal(size=shape) / 2 for name, shape in shapes.items()}
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def saved(folder: Path, arrays: Arrays, **config: Any) -> Path:
    tensors = {name: ("F32", array.shape, array.tobytes()) for name, array in arrays.items()}
    write_safetensors(folder / "model.safetensors", tensors)
    shape = {
        "model_type": "llama",
        "num_hidden_layers": LAYERS,
        "hidden_size": HIDDEN,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "vocab_size": VOCABULARY,
        "rms_norm_eps": 1e-5,
    }
    (folder / "config.json").write_text(json.dumps({**shape, **config}))
    return folder
