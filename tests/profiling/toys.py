"""A toy to profile: a GPU, a model, and how long the operators of the model take on it.

`DENSE` and `HEAD` are what `operators.tables_of` takes: microseconds of a layer, `first + each · count`.
"""

from __future__ import annotations

TOY_GPU = """\
apiVersion: gridctl/v1
kind: Gpu
metadata: {name: toy}
spec: {memory_gib: 10, bandwidth_gbs: 1000, bf16_tflops: 1}
"""
TOY_MODEL = """\
apiVersion: gridctl/v1
kind: Model
metadata: {name: small}
spec:
  architecture: {layers: 4, hidden_size: 256, heads: 8, kv_heads: 8, head_dim: 64, intermediate_size: 512,
                 vocab_size: 1000}
  variants: [{name: bf16}]
"""
DENSE = {
    "qkv_proj": (30.0, 0.3),
    "o_proj": (10.0, 0.1),
    "gate_up_proj": (40.0, 0.7),
    "down_proj": (20.0, 0.4),
    "layernorm": (2.0, 0.01),
}
HEAD = {"lm_head": (5.0, 0.25)}
