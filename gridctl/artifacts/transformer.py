"""A forward pass of Llama-shaped models in NumPy, one layer's weights in memory at a time.

Enough to see what passes through each layer and matrix, not to serve: no cache, no head. Llama, Mistral, Qwen 2 and 3
(RMS norm, rotary positions by halves, grouped-query attention, gated SiLU) with the default and `llama3` positions;
what differs in any other way is refused, so that a wrong number never comes out in silence. Weights and activations
are float32.
Source: arXiv 2302.13971 (the blocks), 2104.09864 (rotary positions), 2305.13245 (grouped queries).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gridctl.artifacts.checkpoint import Checkpoint
from gridctl.artifacts.lora import read_floats
from gridctl.artifacts.rounding import Floats
from gridctl.artifacts.safetensors import Mapped, Tensor
from gridctl.artifacts.tokens import Ids
from gridctl.errors import InputError

MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3")
CHUNK_TOKENS = 512
"""Tokens that the widest activations are worked out for at a time."""
_EMBEDDINGS = "model.embed_tokens.weight"
_NORMS = ("input_layernorm", "post_attention_layernorm")
_MATRICES = (
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
)
_OPTIONAL = (*(f"{name}.bias" for name in _MATRICES[:4]), "self_attn.q_norm.weight", "self_attn.k_norm.weight")
_NEGATIVE = np.float32(-np.inf)

Seen = Callable[[str, Floats], None]
"""Hears of a matrix by module name and its inputs (tokens, columns)."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The numbers of config.json that a forward pass needs."""

    layers: int
    heads: int
    kv_heads: int
    head_size: int
    epsilon: float
    frequencies: Floats


def why_not(source: Checkpoint) -> str | None:
    """Why this model's forward pass is not known here; None when it is."""
    config = source.config
    if config.get("model_type") not in MODEL_TYPES:
        return f"models of type {str(config.get('model_type'))[:40]!r} are not known here"
    if config.get("hidden_act", "silu") not in ("silu", "swish"):
        return f"hidden_act is {str(config['hidden_act'])[:40]!r}"
    if config.get("use_sliding_window") or config.get("mlp_bias"):
        return "it has sliding windows or biases in its MLPs"
    positions = _positions(config)
    if positions.get("rope_type", positions.get("type", "default")) not in ("default", "llama3"):
        return "its positions are scaled in a way that is not known here"
    if _EMBEDDINGS not in source.tensors:
        return f"it has no {_EMBEDDINGS}"
    layer = "model.layers.0."
    known = {f"{layer}{name}.weight" for name in (*_NORMS, *_MATRICES)} | {f"{layer}{name}" for name in _OPTIONAL}
    odd = [name for name in source.tensors if name.startswith(layer) and name not in known]
    return f"it has {odd[0][:80]!r}" if odd else None


def read_shape(config: Mapping[str, Any]) -> Shape:
    """The shape. Raises: InputError when a number is missing or they do not fit."""
    try:
        heads, hidden = int(config["num_attention_heads"]), int(config["hidden_size"])
        head_size = int(config.get("head_dim") or hidden // heads)
        kv_heads = int(config.get("num_key_value_heads") or heads)
        layers, epsilon = int(config["num_hidden_layers"]), float(config.get("rms_norm_eps", 1e-6))
        if min(heads, kv_heads, head_size, layers) < 1 or heads % kv_heads or head_size % 2:
            raise ValueError("heads, sizes and layers do not fit together")
        return Shape(layers, heads, kv_heads, head_size, epsilon, _frequencies(config, head_size))
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise InputError(f"config.json describes no model: {error}", where="config.json") from None


def _positions(config: Mapping[str, Any]) -> Mapping[str, Any]:
    found = config.get("rope_parameters") or config.get("rope_scaling") or {}
    return found if isinstance(found, dict) else {}


def _frequencies(config: Mapping[str, Any], head_size: int) -> Floats:
    """Radians by position of each pair; `llama3` stretches the slow ones, as Llama 3.1 was trained."""
    positions = _positions(config)
    base = float(positions.get("rope_theta") or config.get("rope_theta") or 10_000.0)
    plain: Floats = (1.0 / base ** (np.arange(0, head_size, 2) / head_size)).astype(np.float32)
    if positions.get("rope_type", positions.get("type")) != "llama3":
        return plain
    factor, old = float(positions["factor"]), float(positions["original_max_position_embeddings"])
    low, high = float(positions["low_freq_factor"]), float(positions["high_freq_factor"])
    turns = old * plain / (2 * math.pi)
    part = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return np.asarray((1 - part) * plain / factor + part * plain, np.float32)


def passed(source: Checkpoint, ids: Ids, seen: Seen) -> Iterator[tuple[int, Floats, Floats]]:
    """What enters and leaves each layer, in order: (layer, before, after), each (windows, length, hidden).

    Memory: one layer's weights, the activations of all windows twice, and the widest of `CHUNK_TOKENS` tokens."""
    shape = read_shape(source.config)
    flow = _embedded(source, ids)
    for number in range(shape.layers):
        weights = _layer(source, number)
        after = np.empty_like(flow)
        for window in range(len(flow)):
            after[window] = _through(shape, weights, flow[window], f"model.layers.{number}.", seen)
        if not np.isfinite(after).all():
            raise InputError(f"layer {number} answers values that are not finite", where=str(source.folder))
        yield number, flow, after
        flow = after


def _embedded(source: Checkpoint, ids: Ids) -> Floats:
    """The rows of the embeddings that are asked for; the others are not read."""
    shard, tensor = source.tensors[_EMBEDDINGS]
    if len(tensor.shape) != 2 or tensor.shape[1] != source.config.get("hidden_size"):
        raise InputError(
            f"{_EMBEDDINGS!r} of shape {list(tensor.shape)} is not config.json's hidden_size wide",
            where=str(source.folder),
            fix="fetch the model again",
        )
    mapped = Mapped(source.shards[shard])
    each = tensor.size // max(1, tensor.shape[0])
    wanted, places = np.unique(ids, return_inverse=True)
    rows = np.empty((len(wanted), tensor.shape[1]), np.float32)
    for row, token in enumerate(wanted):
        start = tensor.start + int(token) * each
        rows[row] = _floats(mapped.bytes_of(start, start + each), tensor)
    found: Floats = rows[places.reshape(ids.shape)]
    return found


def _floats(data: memoryview, tensor: Tensor) -> Floats:
    if tensor.dtype == "BF16":
        return (np.frombuffer(data, np.uint16).astype(np.uint32) << np.uint32(16)).view(np.float32)
    if tensor.dtype not in ("F16", "F32"):
        raise InputError(f"the embeddings are {tensor.dtype}, not floats")
    return np.frombuffer(data, np.float16 if tensor.dtype == "F16" else np.float32).astype(np.float32)


def _layer(source: Checkpoint, number: int) -> dict[str, Floats]:
    tensors = source.tensors
    found = {}
    for name in (*(f"{part}.weight" for part in (*_NORMS, *_MATRICES)), *_OPTIONAL):
        whole = f"model.layers.{number}.{name}"
        if whole in tensors:
            found[name] = read_floats(source.shards[tensors[whole][0]], whole)
        elif name not in _OPTIONAL:
            raise InputError(f"{whole!r} is missing", where=str(source.folder), fix="fetch the model again")
    return found


def _through(shape: Shape, weights: dict[str, Floats], flow: Floats, at: str, seen: Seen) -> Floats:
    """One window (length, hidden) through a layer."""
    try:
        normed = _normed(flow, weights["input_layernorm.weight"], shape.epsilon)
        for name in _MATRICES[:3]:
            seen(at + name, normed)
        heard = _attention(shape, weights, normed)
        seen(at + _MATRICES[3], heard)
        flow = flow + _linear(weights, "self_attn.o_proj", heard)
        after = np.empty_like(flow)
        for first in range(0, len(flow), CHUNK_TOKENS):
            part = flow[first : first + CHUNK_TOKENS]
            normed = _normed(part, weights["post_attention_layernorm.weight"], shape.epsilon)
            seen(at + "mlp.gate_proj", normed)
            seen(at + "mlp.up_proj", normed)
            gate = _linear(weights, "mlp.gate_proj", normed)
            gate /= 1 + np.exp(-np.clip(gate, -80, 80))
            gate *= _linear(weights, "mlp.up_proj", normed)
            seen(at + "mlp.down_proj", gate)
            after[first : first + CHUNK_TOKENS] = part + _linear(weights, "mlp.down_proj", gate)
    except ValueError as error:
        raise InputError(f"{at}* does not fit config.json: {error}", where="config.json") from None
    return after


def _linear(weights: dict[str, Floats], name: str, inputs: Floats) -> Floats:
    out: Floats = inputs @ weights[f"{name}.weight"].T
    if f"{name}.bias" in weights:
        out += weights[f"{name}.bias"]
    return out


def _normed(flow: Floats, weight: Floats, epsilon: float) -> Floats:
    scale = 1 / np.sqrt(np.mean(np.square(flow), -1, keepdims=True) + np.float32(epsilon))
    out: Floats = flow * scale.astype(np.float32) * weight
    return out


def _attention(shape: Shape, weights: dict[str, Floats], normed: Floats) -> Floats:
    length = len(normed)
    queries = _heads(shape, weights, "q", normed, shape.heads)
    keys = _heads(shape, weights, "k", normed, shape.kv_heads)
    values = _linear(weights, "self_attn.v_proj", normed).reshape(length, shape.kv_heads, shape.head_size)
    hidden = np.triu(np.full((length, length), _NEGATIVE, np.float32), 1)
    out = np.empty((length, shape.heads, shape.head_size), np.float32)
    for head in range(shape.heads):
        shared = head // (shape.heads // shape.kv_heads)
        scores = queries[:, head] @ keys[:, shared].T / np.float32(math.sqrt(shape.head_size)) + hidden
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        out[:, head] = scores / scores.sum(-1, keepdims=True) @ values[:, shared]
    return out.reshape(length, -1)


def _heads(shape: Shape, weights: dict[str, Floats], side: str, normed: Floats, count: int) -> Floats:
    """Queries or keys (length, heads, size), turned by their positions."""
    found = _linear(weights, f"self_attn.{side}_proj", normed).reshape(len(normed), count, shape.head_size)
    norm = weights.get(f"self_attn.{side}_norm.weight")
    if norm is not None:
        found = _normed(found, norm, shape.epsilon)
    angles = np.arange(len(normed), dtype=np.float32)[:, None] * shape.frequencies
    cosine, sine = np.cos(angles)[:, None, :], np.sin(angles)[:, None, :]
    first, second = np.split(found, 2, -1)
    turned: Floats = np.concatenate([first * cosine - second * sine, second * cosine + first * sine], -1)
    return turned
