"""Step times read from profile tables: the terms that the scheduler, the functions and the forecast share."""

from __future__ import annotations

from gridctl.engine.profile import ProfileTables
from gridctl.kernels import compiled, inner


@inner
def kv_read_ps(profiles: ProfileTables, profile: int, tokens: int) -> int:
    """Time to read `tokens` of KV in one decode step."""
    segment = 0
    while profiles.kv[profile, segment + 1].knot <= tokens:
        segment += 1
    part = profiles.kv[profile, segment]
    return part.base_ps + part.slope_ps * (tokens - part.knot)


@compiled
def prefill_ps(profiles: ProfileTables, profile: int, width: int, tokens: int) -> int:
    """Time to prefill `tokens` alone on an engine, in chunks of at most `width`, first token sampled."""
    chunks = tokens // width
    rest = tokens - chunks * width
    duration = chunks * profiles.dense_ps[profile, width] + profiles.sample_ps[profile, 1]
    if rest > 0:
        duration += profiles.dense_ps[profile, rest]
    return duration + profiles.pair_fs[profile] * (tokens * (tokens + 1) // 2) // 1000


@compiled
def decode_ps(profiles: ProfileTables, profile: int, context: int, tokens: int) -> int:
    """Time of `tokens` decode steps of one sequence after `context` tokens, on a profile with one KV segment."""
    fixed = profiles.dense_ps[profile, 1] + profiles.sample_ps[profile, 1] + profiles.kv[profile, 0].base_ps
    slope = profiles.kv[profile, 0].slope_ps
    return tokens * fixed + slope * (tokens * (context + 1) + tokens * (tokens - 1) // 2)
