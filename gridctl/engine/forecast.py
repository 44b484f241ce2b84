"""What a new request may expect of an engine: time to first token, time per token, and GPU time taken from others.

Estimates from what a router can know — requests in flight and prompt tokens still without a first token, both of its
own counting, and KV use as last scraped. Replay and gateway fill their candidate rows with this one function.

The engine is taken to be in a steady state: of n sequences in flight with outputs of L tokens, n/L finish and are
replaced every step, so the average step also prefills n/L prompts. First token: what is pending is prefilled first
come first served in chunks beside the decodes, then us; half a step passes before the next one starts; beyond
max_num_seqs, or when KV memory is short, somebody has to finish first.
"""

from __future__ import annotations

from gridctl.engine.profile import ProfileTables
from gridctl.engine.steptime import kv_read_ps, prefill_ps
from gridctl.kernels import fused

PS_PER_FS = 0.001


@fused
def forecast_batching(
    profiles: ProfileTables,
    profile: int,
    max_num_seqs: int,
    max_num_batched_tokens: int,
    steps_ahead: int,
    kv_capacity: int,
    in_flight: int,
    pending_tokens: int,
    kv_tokens: int,
    prompt_tokens: int,
    cached_tokens: int,
    output_tokens: int,
) -> tuple[float, float]:
    """(ttft, tpot) in picoseconds of an engine that batches, wire time apart.

    `steps_ahead` are composed before the running one ends: 1 under asynchronous scheduling, else 0.

    `kv_tokens` are in use, of `kv_capacity`; `output_tokens` is the expected length. Floats, because nothing adds
    these up over a run and integer division would be most of their cost."""
    dense, sample = profiles.dense_ps[profile], profiles.sample_ps[profile]
    others = min(in_flight, max_num_seqs - 1)
    uncached = prompt_tokens - cached_tokens
    kv = kv_read_ps(profiles, profile, others + 1, kv_tokens + prompt_tokens + (output_tokens >> 1))
    step_extra = float(sample[others + 1] + kv)
    refill = int(float(others * uncached) / output_tokens)
    tpot = dense[min(max_num_batched_tokens, others + 1 + refill)] + step_extra

    chunk = max_num_batched_tokens - others
    ahead = pending_tokens + uncached
    full = int(float(ahead) / chunk)
    rest = ahead - full * chunk
    ttft = full * (dense[max_num_batched_tokens] + step_extra)
    if rest > 0:
        ttft += dense[rest + others] + step_extra
    pairs = float(uncached) * (cached_tokens + 0.5 * (uncached + 1))
    ttft += pairs * profiles.pair_fs[profile] * PS_PER_FS
    if in_flight > 0:
        if pending_tokens > 0:
            ttft += 0.5 * dense[max_num_batched_tokens]
        else:
            ttft += (0.5 + steps_ahead) * (dense[others + 1] + step_extra)
    residence = output_tokens * tpot
    if in_flight >= max_num_seqs:
        ttft += residence * (in_flight - max_num_seqs + 1) / max_num_seqs
    short = kv_tokens + pending_tokens + prompt_tokens - kv_capacity
    if short > 0:
        ttft += residence * short / max(1, kv_tokens)
    return ttft, tpot


@fused
def added_gpu_time(
    profiles: ProfileTables,
    profile: int,
    max_num_seqs: int,
    max_num_batched_tokens: int,
    in_flight: int,
    prompt_tokens: int,
    cached_tokens: int,
    output_tokens: int,
) -> float:
    """Engine time in picoseconds that a request adds to what the engine has to do anyway: its prefill at full chunks,
    its own attention, and for each token how much longer the step gets."""
    dense, sample = profiles.dense_ps[profile], profiles.sample_ps[profile]
    others = min(in_flight, max_num_seqs - 1)
    uncached = prompt_tokens - cached_tokens
    slimmer = max(1, others)
    wider = dense[others + 1] + sample[others + 1] - dense[slimmer] - sample[slimmer]
    own_kv = kv_read_ps(profiles, profile, 1, prompt_tokens + (output_tokens >> 1))
    per_token = float(dense[max_num_batched_tokens]) / max_num_batched_tokens
    pairs = float(uncached) * (cached_tokens + 0.5 * (uncached + 1))
    own_pairs = pairs * profiles.pair_fs[profile] * PS_PER_FS
    return uncached * per_token + own_pairs + float(output_tokens * (wider + own_kv))


@fused
def forecast_serverless(
    profiles: ProfileTables,
    profile: int,
    width: int,
    instances: int,
    in_flight: int,
    cold_start: int,
    prompt_tokens: int,
    output_tokens: int,
) -> tuple[float, float, float]:
    """(ttft, tpot, billed) in picoseconds of function instances; a cold start is expected when none is in flight."""
    ttft = float(prefill_ps(profiles, profile, width, prompt_tokens))
    tpot = float(profiles.dense_ps[profile, 1] + profiles.sample_ps[profile, 1])
    tpot += kv_read_ps(profiles, profile, 1, prompt_tokens + (output_tokens >> 1))
    billed = ttft + output_tokens * tpot
    if in_flight >= instances:
        ttft += billed * (in_flight - instances + 1) / instances
    else:
        ttft += cold_start
        billed += cold_start
    return ttft, tpot, billed
