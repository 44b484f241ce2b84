"""A Llama-shaped model with random weights and a KV cache in slots, for `gpu_step_times.py`. PyTorch alone.

One method per kernel group that the operator tables name, so that what is timed alone is what a step runs. Decode
attention splits each sequence's KV over the GPU (flash decoding, Dao et al. 2023) in Triton, which PyTorch brings on
CUDA machines; without Triton it asks scaled_dot_product_attention for one sequence at a time. A prefill asks it with a
causal mask aligned to the end of the KV before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch.nn.attention.bias import causal_lower_right

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = None

MOST_SPLITS = 64
BLOCK = 64
ROWS = 16  # the smallest matrix product of tensor cores


@dataclass(frozen=True)
class Shape:
    """The numbers of a config.json; the defaults are those of Llama-3.1-8B."""

    layers: int = 32
    hidden: int = 4096
    heads: int = 32
    kv_heads: int = 8
    head_dim: int = 128
    intermediate: int = 14336
    vocab: int = 128256

    @property
    def layer_parameters(self) -> int:
        attention = self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        return attention + 3 * self.hidden * self.intermediate

    @property
    def kv_elements(self) -> int:
        """Keys and values of one token, all layers."""
        return 2 * self.layers * self.kv_heads * self.head_dim


@dataclass(frozen=True)
class Prefill:
    """A chunk of `tokens` of the sequence in `slot`, after `before` tokens of it."""

    slot: int
    before: int
    tokens: int


if triton is not None:

    @triton.jit
    def _decode_parts(
        q, k, v, slots, lengths, acc_out, max_out, sum_out, scale, capacity,
        kv_heads: tl.constexpr, group: tl.constexpr, dim: tl.constexpr, splits: tl.constexpr,
        block: tl.constexpr, padded: tl.constexpr,
    ):  # fmt: skip
        """One split of one sequence's KV for one KV head and its group of query heads."""
        sequence, head, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
        slot = tl.load(slots + sequence).to(tl.int64)
        length = tl.load(lengths + sequence)
        part = tl.cdiv(tl.cdiv(length, splits), block) * block
        begin = split * part
        end = tl.minimum(begin + part, length)
        rows = tl.arange(0, padded)
        dims = tl.arange(0, dim)
        first = (sequence * kv_heads + head) * group
        queries = tl.load(q + (first + rows)[:, None] * dim + dims[None, :], mask=rows[:, None] < group, other=0.0)
        base = (slot * kv_heads + head) * capacity * dim
        best = tl.full([padded], float("-inf"), tl.float32)
        total = tl.zeros([padded], tl.float32)
        acc = tl.zeros([padded, dim], tl.float32)
        for start in range(begin, end, block):
            at = start + tl.arange(0, block)
            inside = at < end
            keys = tl.load(k + base + at[None, :] * dim + dims[:, None], mask=inside[None, :], other=0.0)
            scores = tl.where(inside[None, :], tl.dot(queries, keys) * scale, float("-inf"))
            higher = tl.maximum(best, tl.max(scores, 1))
            weights = tl.exp(scores - higher[:, None])
            shrink = tl.exp(best - higher)
            values = tl.load(v + base + at[:, None] * dim + dims[None, :], mask=inside[:, None], other=0.0)
            acc = acc * shrink[:, None] + tl.dot(weights.to(values.dtype), values)
            total = total * shrink + tl.sum(weights, 1)
            best = higher
        row = (first + rows) * splits + split
        tl.store(max_out + row, best, mask=rows < group)
        tl.store(sum_out + row, total, mask=rows < group)
        tl.store(acc_out + row[:, None] * dim + dims[None, :], acc, mask=rows[:, None] < group)

    @triton.jit
    def _join_parts(acc_in, max_in, sum_in, out, dim: tl.constexpr, splits: tl.constexpr):
        """The softmax over all splits of one query head."""
        row = tl.program_id(0)
        parts = tl.arange(0, splits)
        dims = tl.arange(0, dim)
        best = tl.load(max_in + row * splits + parts)
        weights = tl.exp(best - tl.max(best, 0))
        total = tl.sum(weights * tl.load(sum_in + row * splits + parts), 0)
        acc = tl.load(acc_in + (row * splits + parts)[:, None] * dim + dims[None, :])
        joined = tl.sum(acc * weights[:, None], 0) / total
        tl.store(out + row * dim + dims, joined.to(out.dtype.element_ty))


class Llama:
    """Weights, KV cache of `slots` sequences of up to `capacity` tokens, and the kernels of a step."""

    def __init__(self, shape: Shape, device: str, dtype: torch.dtype, slots: int, capacity: int) -> None:
        self.shape, self.device, self.dtype, self.capacity = shape, device, dtype, capacity
        self.can_split = triton is not None and device == "cuda"
        self.processors = torch.cuda.get_device_properties(0).multi_processor_count if device == "cuda" else 1
        rows = (shape.heads + 2 * shape.kv_heads) * shape.head_dim
        make = self._weights
        self.embedding, self.lm_head = make(shape.vocab, shape.hidden), make(shape.vocab, shape.hidden)
        self.qkv_weights = [make(rows, shape.hidden) for _ in range(shape.layers)]
        self.o_weights = [make(shape.hidden, shape.heads * shape.head_dim) for _ in range(shape.layers)]
        self.gate_up_weights = [make(2 * shape.intermediate, shape.hidden) for _ in range(shape.layers)]
        self.down_weights = [make(shape.hidden, shape.intermediate) for _ in range(shape.layers)]
        self.norm_weight = torch.ones(shape.hidden, device=device, dtype=dtype)
        cache = (slots, shape.kv_heads, capacity, shape.head_dim)
        self.keys = [torch.zeros(cache, device=device, dtype=dtype) for _ in range(shape.layers)]
        self.values = [torch.zeros(cache, device=device, dtype=dtype) for _ in range(shape.layers)]
        angles = torch.outer(
            torch.arange(capacity, device=device).float(),
            500000.0 ** (-torch.arange(0, shape.head_dim, 2, device=device).float() / shape.head_dim),
        )
        self.cosine, self.sine = angles.cos().to(dtype)[:, None, :], angles.sin().to(dtype)[:, None, :]

    def _weights(self, rows: int, columns: int) -> torch.Tensor:
        return torch.randn(rows, columns, device=self.device, dtype=self.dtype) * columns**-0.5

    def norm(self, hidden: torch.Tensor, residual: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        residual = residual + hidden
        return F.rms_norm(residual, (self.shape.hidden,), self.norm_weight, 1e-5), residual

    def qkv(self, layer: int, hidden: torch.Tensor) -> torch.Tensor:
        heads = self.shape.heads + 2 * self.shape.kv_heads
        return F.linear(hidden, self.qkv_weights[layer]).view(-1, heads, self.shape.head_dim)

    def rotary(self, qkv: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Queries and keys, rotated in halves."""
        rotated = qkv[:, : self.shape.heads + self.shape.kv_heads]
        low, high = rotated.chunk(2, -1)
        cosine, sine = self.cosine[positions], self.sine[positions]
        return torch.cat((low * cosine - high * sine, high * cosine + low * sine), -1)

    def write(self, layer: int, slots: torch.Tensor, positions: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> None:
        self.keys[layer][slots, :, positions] = k
        self.values[layer][slots, :, positions] = v

    def decode_attention(self, layer: int, q: torch.Tensor, slots: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """One query per sequence against all its KV. q: (n, heads, dim)."""
        return self._split(layer, q.contiguous(), slots, lengths) if self.can_split else self._one_by_one(
            layer, q, slots, lengths
        )  # fmt: skip

    def _split(self, layer: int, q: torch.Tensor, slots: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        shape, count = self.shape, q.shape[0]
        wanted = max(1, 2 * self.processors // (count * shape.kv_heads))
        splits = min(MOST_SPLITS, triton.next_power_of_2(wanted))
        rows = (count, shape.heads, splits)
        acc = torch.empty((*rows, shape.head_dim), device=q.device, dtype=torch.float32)
        best, total = torch.empty(rows, device=q.device), torch.empty(rows, device=q.device)
        out = torch.empty_like(q)
        _decode_parts[(count, shape.kv_heads, splits)](
            q, self.keys[layer], self.values[layer], slots, lengths, acc, best, total,
            shape.head_dim**-0.5, self.capacity,
            kv_heads=shape.kv_heads, group=shape.heads // shape.kv_heads, dim=shape.head_dim, splits=splits,
            block=BLOCK, padded=max(ROWS, triton.next_power_of_2(shape.heads // shape.kv_heads)),
        )  # fmt: skip
        _join_parts[(count * shape.heads,)](acc, best, total, out, dim=shape.head_dim, splits=splits)
        return out

    def _one_by_one(self, layer: int, q: torch.Tensor, slots: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        parts = []
        for row, (slot, length) in enumerate(zip(slots.tolist(), lengths.tolist(), strict=True)):
            k, v = self.keys[layer][slot, :, :length], self.values[layer][slot, :, :length]
            query = q[row][None, :, None]
            out = F.scaled_dot_product_attention(query, k[None], v[None], enable_gqa=True)
            parts.append(out[0, :, 0])
        return torch.stack(parts)

    def prefill_attention(self, layer: int, q: torch.Tensor, chunk: Prefill) -> torch.Tensor:
        """A chunk against its own and all earlier KV. q: (tokens, heads, dim)."""
        end = chunk.before + chunk.tokens
        k, v = self.keys[layer][chunk.slot, :, :end][None], self.values[layer][chunk.slot, :, :end][None]
        query = q.transpose(0, 1)[None]
        if chunk.before == 0:
            out = F.scaled_dot_product_attention(query, k, v, is_causal=True, enable_gqa=True)
        else:
            group = self.shape.heads // self.shape.kv_heads
            k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
            out = F.scaled_dot_product_attention(query, k, v, attn_mask=causal_lower_right(chunk.tokens, end))
        return out[0].transpose(0, 1)

    def o(self, layer: int, attended: torch.Tensor) -> torch.Tensor:
        return F.linear(attended.flatten(1), self.o_weights[layer])

    def gate_up(self, layer: int, hidden: torch.Tensor) -> torch.Tensor:
        return F.linear(hidden, self.gate_up_weights[layer])

    def act(self, gate_up: torch.Tensor) -> torch.Tensor:
        gate, up = gate_up.chunk(2, -1)
        return F.silu(gate) * up

    def down(self, layer: int, hidden: torch.Tensor) -> torch.Tensor:
        return F.linear(hidden, self.down_weights[layer])

    def head(self, hidden: torch.Tensor) -> torch.Tensor:
        return F.linear(hidden, self.lm_head)

    def sample(self, logits: torch.Tensor) -> torch.Tensor:
        return logits.argmax(-1)

    def step(
        self,
        tokens: torch.Tensor,
        positions: torch.Tensor,
        slots: torch.Tensor,
        decodes: int,
        lengths: torch.Tensor,
        chunks: list[Prefill],
        sampled: torch.Tensor,
    ) -> torch.Tensor:
        """One step: `decodes` tokens first, then the chunks'. Returns the next token of each row in `sampled`."""
        shape = self.shape
        hidden = F.embedding(tokens, self.embedding)
        residual = torch.zeros_like(hidden)
        for layer in range(shape.layers):
            hidden, residual = self.norm(hidden, residual)
            qkv = self.qkv(layer, hidden)
            rotated = self.rotary(qkv, positions)
            q, k = rotated[:, : shape.heads], rotated[:, shape.heads :]
            self.write(layer, slots, positions, k, qkv[:, shape.heads + shape.kv_heads :])
            parts: list[Any] = []
            if decodes:
                parts.append(self.decode_attention(layer, q[:decodes], slots[:decodes], lengths[:decodes]))
            start = decodes
            for chunk in chunks:
                parts.append(self.prefill_attention(layer, q[start : start + chunk.tokens], chunk))
                start += chunk.tokens
            attended = parts[0] if len(parts) == 1 else torch.cat(parts)
            hidden, residual = self.norm(self.o(layer, attended), residual)
            hidden = self.down(layer, self.act(self.gate_up(layer, hidden)))
        hidden, _ = self.norm(hidden[sampled], residual[sampled])
        return self.sample(self.head(hidden))
