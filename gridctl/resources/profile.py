"""Profile: how long one engine step takes, as measured on an accelerator, in piecewise linear curves.

A step over `n` decodes that read `K` KV tokens in all, and `C` prefill tokens, takes

    dense(n + C) + sample(sequences sampled) + attention

where attention is `decode(n, K / n)` without prefill; with prefill it is `mixed(n, K / n) + cross · n · C` (kernels
that also hold a prefill read the decodes' KV less well) plus `chunk(C)`, the prefill's own attention. Times are
microseconds of the whole model; between knots they are interpolated, beyond the last one extrapolated.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from gridctl.resources.model import Architecture, Dtype
from gridctl.resources.quantity import Name, PositiveCount
from gridctl.resources.resource import Resource

Microseconds = Annotated[float, Meta(ge=0, le=1e9)]
Tokens = Annotated[int, Meta(ge=0, le=100_000_000)]
Knots = Annotated[tuple[tuple[Tokens, Microseconds], ...], Meta(min_length=1, max_length=2048)]
Percent = Annotated[float, Meta(ge=0, le=1000)]
Sentence = Annotated[str, Meta(max_length=1000)]


class DecodeRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Decode attention of `sequences` decodes: `(KV tokens per sequence, microseconds)` by rising tokens."""

    sequences: PositiveCount
    kv: Knots


Rows = Annotated[tuple[DecodeRow, ...], Meta(min_length=1, max_length=64)]


class ChunkKnot(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Attention of a prefill of `tokens` with nothing before it, and what each KV token before it adds."""

    tokens: Tokens
    us: Microseconds
    us_per_kv_token: Microseconds


class ProfileRange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What was measured: tokens and sequences of a step, KV tokens of one sequence."""

    tokens: PositiveCount
    sequences: PositiveCount
    kv_tokens: PositiveCount


class FitError(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Absolute relative residuals of the fit, percent; `step` is the standard deviation a step time may be off by,
    which `replay run --seeds` draws from."""

    dense_p50: Percent = 0.0
    dense_p95: Percent = 0.0
    attention_p50: Percent = 0.0
    attention_p95: Percent = 0.0
    step: Percent = 5.0


class ProfileSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Step times of one engine: which, where from, how good, and the curves."""

    gpu: Name
    architecture: Architecture
    dtype: Dtype = "bf16"
    kv_cache_dtype: Literal["auto", "fp8"] = "auto"
    tensor_parallel: Annotated[int, Meta(ge=1, le=64)] = 1
    data_parallel: Annotated[int, Meta(ge=1, le=64)] = 1
    method: Literal["operators", "roofline", "endpoint"] = "operators"
    source: Sentence = ""
    valid: ProfileRange
    error: FitError = FitError()
    dense: Knots
    sample: Knots
    decode: Rows
    mixed: Annotated[tuple[DecodeRow, ...], Meta(max_length=64)] = ()
    cross_ns: Annotated[float, Meta(ge=0, le=1e9)] = 0.0
    chunk: Annotated[tuple[ChunkKnot, ...], Meta(min_length=1, max_length=2048)]


class Profile(Resource, frozen=True, kw_only=True):
    """Measured step times of a model on an accelerator."""

    plural: ClassVar[str] = "profiles"
    noun: ClassVar[str] = "profile"
    summary: ClassVar[str] = "step times of a model on an accelerator: measured, fitted or from a roofline"

    spec: ProfileSpec
