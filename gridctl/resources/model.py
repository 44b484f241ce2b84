"""Model: an architecture and its variants. Sizes follow from the architecture; quality is measured or absent.

Parameter count of a decoder with grouped-query attention and gated MLPs, per layer:
hidden·head_dim·(heads + 2·kv_heads) + heads·head_dim·hidden + 3·hidden·intermediate·max(experts, 1);
embeddings and LM head add vocab·hidden each (one matrix when tied).
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from gridctl.resources.quantity import Fraction, Gib, Name, PositiveCount, Text
from gridctl.resources.resource import Resource

Dtype = Literal["bf16", "fp8", "int8", "w4a16"]

WEIGHT_BITS: dict[Dtype, float] = {"bf16": 16.0, "fp8": 8.0, "int8": 8.0, "w4a16": 4.125}
"""Bits per weight; w4a16 adds one bf16 scale to each group of 128 weights (compressed-tensors pack-quantized)."""


class Architecture(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The numbers of a config.json that decide bytes and FLOPs."""

    layers: PositiveCount
    hidden_size: PositiveCount
    heads: PositiveCount
    kv_heads: PositiveCount
    head_dim: PositiveCount
    intermediate_size: PositiveCount
    vocab_size: PositiveCount
    experts: Annotated[int, Meta(ge=0, le=4096)] = 0
    experts_per_token: Annotated[int, Meta(ge=0, le=4096)] = 0
    tied_embeddings: bool = False

    @property
    def attention_parameters(self) -> int:
        """Weights of all attention projections."""
        width = self.head_dim * (self.heads + 2 * self.kv_heads) + self.heads * self.head_dim
        return self.layers * self.hidden_size * width

    @property
    def mlp_parameters(self) -> int:
        """Weights of all MLPs, every expert counted."""
        return self.layers * 3 * self.hidden_size * self.intermediate_size * max(1, self.experts)

    @property
    def active_mlp_parameters(self) -> int:
        """MLP weights one token passes through."""
        return self.layers * 3 * self.hidden_size * self.intermediate_size * max(1, self.experts_per_token)

    @property
    def embedding_parameters(self) -> int:
        """One vocabulary matrix."""
        return self.vocab_size * self.hidden_size

    @property
    def parameters(self) -> int:
        """All weights."""
        matrices = 1 if self.tied_embeddings else 2
        return self.attention_parameters + self.mlp_parameters + matrices * self.embedding_parameters

    def kv_bytes_per_token(self, element_bytes: int = 2) -> int:
        """KV-cache bytes one token holds over all layers: keys and values."""
        return 2 * self.layers * self.kv_heads * self.head_dim * element_bytes


class Variant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One set of weights of the model. `quality` is a score in 0..1 on the operator's own scale; absent = unmeasured,
    and an unmeasured variant fails every quality floor."""

    name: Name
    dtype: Dtype = "bf16"
    quality: Fraction | None = None
    weight_gib: Gib | None = None
    lineage: Text = ""


class ModelSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Architecture, context limit and variants."""

    architecture: Architecture
    variants: Annotated[tuple[Variant, ...], Meta(min_length=1)]
    max_context: PositiveCount = 131_072

    def variant(self, name: str) -> Variant | None:
        """The variant of that name, or None."""
        return next((v for v in self.variants if v.name == name), None)

    @property
    def vocabulary_bytes(self) -> int:
        """Bytes of embeddings and LM head: bf16 in every quantised format gridctl knows."""
        matrices = 1 if self.architecture.tied_embeddings else 2
        return 2 * matrices * self.architecture.embedding_parameters

    def expert_bytes(self, variant: Variant) -> int:
        """Bytes of all experts' weights; 0 for a dense model."""
        shape = self.architecture
        if shape.experts <= 1:
            return 0
        body = self.weight_bytes(variant) - self.vocabulary_bytes
        return int(body * (shape.mlp_parameters / (shape.mlp_parameters + shape.attention_parameters)))

    def weight_bytes(self, variant: Variant) -> int:
        """Bytes of the variant's weights: as declared, else from the architecture; embeddings, the LM head and
        norms stay bf16 in every quantised format gridctl knows."""
        if variant.weight_gib is not None:
            return int(variant.weight_gib * (1 << 30))
        body = self.architecture.parameters - self.vocabulary_bytes // 2
        return int(body * WEIGHT_BITS[variant.dtype] / 8) + self.vocabulary_bytes


class Model(Resource, frozen=True, kw_only=True):
    """A model and its variants."""

    plural: ClassVar[str] = "models"
    noun: ClassVar[str] = "model"
    summary: ClassVar[str] = "an architecture and its variants (bf16, fp8, int8, w4a16) with their quality"

    spec: ModelSpec
