"""Expectation: an engine's record, its load and its prices → the latency and dollars of one more request on it.

The one place where a candidate row gets its predictions: a replay hands in the twin's engine and what its router knows
of the load, the live broker hands in the same record and what it counted and was told. Knows no clock and no policy.
Times are picoseconds in the record and microseconds in the row.
"""

from __future__ import annotations

import numpy as np

from gridctl.engine.forecast import added_gpu_time, forecast_batching, forecast_serverless
from gridctl.engine.profile import ProfileTables
from gridctl.engine.state import API, GPU, SERVERLESS
from gridctl.kernels import fused
from gridctl.routing.rows import BATCHING, FUNCTION, PUBLIC_API
from gridctl.units import PS_PER_US

US_PER_PS = 1.0 / PS_PER_US

assert (GPU, SERVERLESS, API) == (BATCHING, FUNCTION, PUBLIC_API), "a row's kind is its engine's"


@fused
def resident_tokens(host: np.record, announced: int, pending: int) -> int:
    """KV tokens in the engine's memory, by the router's own count: those announced less those not read yet."""
    return max(0, min(announced - pending, host.blocks_total * host.block_size))


@fused
def expect_batching(
    row: np.record,
    host: np.record,
    profiles: ProfileTables,
    load: tuple[int, int, int],
    prompt: int,
    output: int,
) -> None:
    """Predicted latencies on an engine that batches, under `load` (in flight, pending tokens, KV tokens)."""
    in_flight, pending, kv_tokens = load
    ttft, tpot = forecast_batching(
        profiles,
        host.profile,
        host.max_num_seqs,
        host.max_num_batched_tokens,
        host.async_scheduling,
        host.blocks_total * host.block_size,
        in_flight,
        pending,
        kv_tokens,
        prompt,
        row.cached_tokens,
        output,
    )
    row.load = 0.0
    row.usd_gpu = 0.0
    row.ttft_us = ttft * US_PER_PS
    row.tpot_us = tpot * US_PER_PS


@fused
def charge_gpu(
    row: np.record,
    host: np.record,
    profiles: ProfileTables,
    usd_per_ps: float,
    in_flight: int,
    prompt: int,
    output: int,
) -> None:
    """The GPU time that the request takes from others, at its price, and how busy the engine is."""
    row.load = in_flight / host.max_num_seqs
    row.usd_gpu = usd_per_ps * added_gpu_time(
        profiles,
        host.profile,
        host.max_num_seqs,
        host.max_num_batched_tokens,
        in_flight,
        prompt,
        row.cached_tokens,
        output,
    )


@fused
def expect_function(
    row: np.record, host: np.record, profiles: ProfileTables, in_flight: int, prompt: int, output: int
) -> float:
    """Predicted latencies on function instances; returns the function time that is billed, picoseconds."""
    cold = host.cold_start if host.idle_instances == 0 else 0
    ttft, tpot, added = forecast_serverless(
        profiles,
        host.profile,
        host.max_num_batched_tokens,
        host.max_num_seqs,
        in_flight,
        cold,
        prompt,
        output,
    )
    row.load = 0.0
    row.usd_gpu = 0.0
    row.ttft_us = ttft * US_PER_PS
    row.tpot_us = tpot * US_PER_PS
    return added


@fused
def expect_api(row: np.record, host: np.record) -> None:
    """Predicted latencies of the public API: those it was declared with."""
    row.load = 0.0
    row.usd_gpu = 0.0
    row.ttft_us = float(host.api_ttft) * US_PER_PS
    row.tpot_us = float(host.api_tpot) * US_PER_PS
