"""What the router sees of each candidate: rows filled from the twin, compiled.

An engine is advanced only when somebody looks at it: to the moment of the look, never beyond, so no decision sees the
future. Seen are the router's own in-flight counters, which are exact because every response passes through it, and
the last scrape that is at least `delay` old; prefix matches are what an engine's KV events would tell, which arrive
within milliseconds and are taken to be current.
"""

from __future__ import annotations

import numpy as np

from gridctl.engine.blocks import lay_path, matching_stretches, nodes_cached
from gridctl.engine.clock import observe
from gridctl.engine.forecast import added_gpu_time, forecast_batching, forecast_serverless
from gridctl.engine.state import API, GPU, NIL, SERVERLESS, Fleet
from gridctl.kernels import Records, fused
from gridctl.replay.scene import Requests, Scene
from gridctl.routing.price import least_usd, price_candidate
from gridctl.routing.rows import BATCHING, FUNCTION, GRID, PREFIX_AFFINITY, PUBLIC_API
from gridctl.units import PS_PER_US

US_PER_PS = 1.0 / PS_PER_US


@fused
def _fill_load(row: np.record, fleet: Fleet, engine: int, scene: Scene, now: int) -> tuple[int, int, int]:
    """What the router knows of the engine's load: (in flight, pending tokens, KV tokens)."""
    host = fleet.engines[engine]
    is_visible = host.scrape_time <= now - scene.delay
    kv_blocks = host.scrape_kv_blocks if is_visible else host.older_kv_blocks
    if scene.counts_in_flight == 1:
        in_flight, pending = host.in_flight, host.pending_tokens
    elif is_visible:
        in_flight, pending = host.scrape_running + host.scrape_waiting, host.scrape_pending_tokens
    else:
        in_flight, pending = host.older_running + host.older_waiting, host.older_pending_tokens
    row.in_flight = in_flight
    return in_flight, pending, kv_blocks * host.block_size


@fused
def _forecast(
    row: np.record,
    fleet: Fleet,
    engine: int,
    scene: Scene,
    load: tuple[int, int, int],
    prompt: int,
    output: int,
    counts_gpu: bool,
) -> None:
    """Fill the row's predicted latencies and dollars; GPU time only if it counts."""
    host = fleet.engines[engine]
    in_flight, pending, kv_tokens = load
    cached = row.cached_tokens
    if host.kind == GPU:
        ttft, tpot = forecast_batching(
            fleet.profiles,
            host.profile,
            host.max_num_seqs,
            host.max_num_batched_tokens,
            host.blocks_total * host.block_size,
            in_flight,
            pending,
            kv_tokens,
            prompt,
            cached,
            output,
        )
        row.load = 0.0
        row.usd_gpu = 0.0
        if counts_gpu:
            row.load = in_flight / host.max_num_seqs
            row.usd_gpu = scene.gpu_usd_per_ps[engine] * added_gpu_time(
                fleet.profiles,
                host.profile,
                host.max_num_seqs,
                host.max_num_batched_tokens,
                in_flight,
                prompt,
                cached,
                output,
            )
        row.usd_cash = output * scene.usd_per_output_token[engine]
    elif host.kind == SERVERLESS:
        cold = host.cold_start if host.idle_instances == 0 else 0
        ttft, tpot, added = forecast_serverless(
            fleet.profiles,
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
        row.usd_cash = added * scene.cash_usd_per_ps[engine] + output * scene.usd_per_output_token[engine]
    else:
        ttft, tpot = float(host.api_ttft), float(host.api_tpot)
        row.load = 0.0
        row.usd_gpu = 0.0
        row.usd_cash = prompt * scene.usd_per_input_token[engine] + output * scene.usd_per_output_token[engine]
    row.ttft_us = ttft * US_PER_PS
    row.tpot_us = tpot * US_PER_PS


@fused
def _idle_forecast(
    fleet: Fleet, engine: int, scene: Scene, number: int, prompt: int, nodes: int, output: int
) -> tuple[float, float]:
    """(ttft, tpot) in microseconds on the engine's kind when it is idle and holds the prompt's first `nodes`: worked
    out once per request and step profile, kept with the request's number."""
    host = fleet.engines[engine]
    memo = scene.idle[host.profile]
    if memo[0] != number:
        ttft, tpot = forecast_batching(
            fleet.profiles,
            host.profile,
            host.max_num_seqs,
            host.max_num_batched_tokens,
            host.blocks_total * host.block_size,
            0,
            0,
            0,
            prompt,
            nodes * fleet.node_tokens,
            output,
        )
        memo[0], memo[1], memo[2] = number, ttft * US_PER_PS, tpot * US_PER_PS
    return memo[1], memo[2]


@fused
def fill_rows(
    rows: Records,
    fleet: Fleet,
    scene: Scene,
    requests: Requests,
    index: int,
    number: int,
    request: np.record,
    policy: np.record,
) -> tuple[int, int]:
    """A row per candidate; returns how many fit the request's context and how many of those have a full queue.

    Under `grid` a row is priced as soon as it is filled. Once some candidate meets the objectives, those that would be
    dearer even if they were idle are left unavailable without a look: the decision is the same, and its cost follows
    how far load makes requests spill, not how many candidates there are."""
    now, prompt = requests.arrival[index], requests.prompt_tokens[index]
    start = scene.offset[requests.list_index[index]]
    stop = scene.offset[requests.list_index[index] + 1]
    # How many leading stretches some engine is known to hold. Engines publish what they compute when they are advanced,
    # so the count grows as candidates are looked at; what those not looked at hold is bounded by what was ever sent.
    sent = requests.leaf[index]
    while sent != NIL and not scene.sent[sent]:
        sent = int(fleet.stretch_parent[sent])
    path = lay_path(fleet, sent)
    most, known = 0, 0
    if path > 0:
        most = min(int(fleet.stretch_depth[sent]), (prompt - 1) // fleet.node_tokens)
    fitting, full, matched = 0, 0, 0
    is_grid = policy.algorithm == GRID
    weighs_prefixes = is_grid or policy.algorithm == PREFIX_AFFINITY
    cheapest, floor = np.inf, -np.inf
    floor_rtt, floor_profile = -1.0, -1
    for place in range(start, stop):
        engine = scene.candidate[place]
        host = fleet.engines[engine]
        row = rows[place - start]
        row.engine = engine
        row.kind = BATCHING if host.kind == GPU else (FUNCTION if host.kind == SERVERLESS else PUBLIC_API)
        row.is_core = scene.is_core[engine]
        row.prompt_tokens = prompt
        row.rtt_us = scene.rtt_us[place] + scene.access_us[requests.workload[index]]
        row.cached_tokens = 0
        row.is_available = 0
        row.is_priced = 0
        if prompt + requests.output_tokens[index] > host.max_context:
            continue
        if host.kind == API and not is_grid:
            continue  # the other policies know no public API, so it saves no request of theirs from being too long
        fitting += 1
        if host.kind == GPU and is_grid:
            if row.rtt_us != floor_rtt or host.profile != floor_profile:
                floor_rtt, floor_profile = row.rtt_us, host.profile
                idle = _idle_forecast(fleet, engine, scene, number, prompt, most, request.output_tokens)
                floor = least_usd(row.rtt_us, idle[0], idle[1], request, policy)
            if floor > cheapest:
                continue
        if host.kind != API:
            observe(fleet, engine, now, scene.period)
        load = _fill_load(row, fleet, engine, scene, now)
        if load[0] >= host.max_num_seqs + host.max_waiting:
            full += 1
            continue
        row.is_available = 1
        if weighs_prefixes and most > 0:
            while known < path and fleet.holders[fleet.router_path[known]] > 0:
                known += 1
            matched = matching_stretches(fleet, engine, known, matched)
            if matched > 0:
                nodes = min(most, nodes_cached(fleet, engine, fleet.router_path[matched - 1]))
                row.cached_tokens = nodes * fleet.node_tokens
        if is_grid:
            _forecast(row, fleet, engine, scene, load, prompt, request.output_tokens, policy.gpu_weight > 0.0)
            price_candidate(row, request, policy)
            is_offered = row.kind == BATCHING or (
                policy.allow_serverless == 1 if row.kind == FUNCTION else policy.allow_fallback == 1
            )
            if row.worst_ratio <= 1.0 and is_offered:
                cheapest = min(cheapest, row.usd)
    return fitting, full
