"""Step times read from profile tables: the terms that the scheduler, the functions and the forecast share."""

from __future__ import annotations

from gridctl.engine.profile import ProfileTables
from gridctl.kernels import compiled, inner


@inner
def kv_read_ps(profiles: ProfileTables, profile: int, decodes: int, tokens: int) -> int:
    """Attention of a step of `decodes` decodes that read `tokens` KV tokens in all, no prefill beside them."""
    segment = 0
    while profiles.decode[profile, decodes, segment + 1].knot <= tokens:
        segment += 1
    part = profiles.decode[profile, decodes, segment]
    return part.base_ps + part.slope_ps * (tokens - part.knot)


@inner
def chunk_ps(profiles: ProfileTables, profile: int, tokens: int, pairs: int) -> int:
    """Attention of `tokens` prefill tokens that attend `pairs` token pairs; never negative, though several short
    prompts attend fewer pairs than one of their length."""
    before = (pairs - tokens * (tokens + 1) // 2) // tokens
    return max(0, profiles.chunk_ps[profile, tokens] + profiles.chunk_kv_ps[profile, tokens] * before)


@inner
def mixed_ps(profiles: ProfileTables, profile: int, decodes: int, tokens: int, chunk: int) -> int:
    """Attention of `decodes` decodes over `tokens` KV tokens beside a prefill of `chunk`, without the latter's own."""
    segment = 0
    while profiles.mixed[profile, decodes, segment + 1].knot <= tokens:
        segment += 1
    part = profiles.mixed[profile, decodes, segment]
    return part.base_ps + part.slope_ps * (tokens - part.knot) + profiles.cross_ps[profile] * decodes * chunk


@compiled
def prefill_ps(profiles: ProfileTables, profile: int, width: int, tokens: int) -> int:
    """Time to prefill `tokens` alone on an engine, in chunks of at most `width`, first token sampled."""
    chunks = tokens // width
    rest = tokens - chunks * width
    duration = chunks * (profiles.dense_ps[profile, width] + profiles.chunk_ps[profile, width])
    duration += profiles.chunk_kv_ps[profile, width] * width * (chunks * (chunks - 1) // 2)
    if rest > 0:
        duration += profiles.dense_ps[profile, rest] + profiles.chunk_ps[profile, rest]
        duration += profiles.chunk_kv_ps[profile, rest] * chunks * width
    return duration + profiles.sample_ps[profile, 1]


@compiled
def decode_ps(profiles: ProfileTables, profile: int, context: int, tokens: int) -> int:
    """Time of `tokens` decode steps of one sequence after `context` tokens, on a profile with one KV segment."""
    fixed = profiles.dense_ps[profile, 1] + profiles.sample_ps[profile, 1] + profiles.decode[profile, 1, 0].base_ps
    slope = profiles.decode[profile, 1, 0].slope_ps
    return tokens * fixed + slope * (tokens * (context + 1) + tokens * (tokens - 1) // 2)
