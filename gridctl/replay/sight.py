"""What the router sees of each candidate: rows filled from the twin, compiled.

An engine is advanced only when somebody looks at it: to the moment of the look, never beyond, so no decision sees the
future. Seen are the router's own counters (in flight, prompt tokens without a first token, KV tokens), which are
current because every response passes through it, or, for a router that does not count, the last scrape that is at least
`delay` old; prefix matches are what an engine's KV events would tell, which arrive
within milliseconds and are taken to be current.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gridctl.engine.blocks import lay_path, matching_stretches, nodes_cached
from gridctl.engine.clock import observe
from gridctl.engine.forecast import forecast_batching
from gridctl.engine.state import API, GPU, NIL, SERVERLESS, Fleet
from gridctl.grid.expectation import (
    US_PER_PS,
    charge_gpu,
    expect_api,
    expect_batching,
    expect_function,
    resident_tokens,
)
from gridctl.kernels import Records, fused, inner
from gridctl.replay.scene import CLOSED, MARKS, NUMBER, TPOT, TTFT, Requests, Scene
from gridctl.routing.price import least, price_candidate
from gridctl.routing.rows import PREFIX_AFFINITY


@fused
def _fill_load(row: np.record, fleet: Fleet, engine: int, scene: Scene, now: int) -> tuple[int, int, int]:
    """What the router knows of the engine's load: (in flight, pending tokens, KV tokens)."""
    host = fleet.engines[engine]
    if scene.counts_in_flight == 1:
        in_flight, pending = host.in_flight, host.pending_tokens
        kv_tokens = resident_tokens(host, host.announced_kv, pending)
    elif host.scrape_time <= now - scene.delay:
        in_flight, pending = host.scrape_running + host.scrape_waiting, host.scrape_pending_tokens
        kv_tokens = host.scrape_kv_blocks * host.block_size
    else:
        in_flight, pending = host.older_running + host.older_waiting, host.older_pending_tokens
        kv_tokens = host.older_kv_blocks * host.block_size
    row.in_flight = in_flight
    return in_flight, pending, kv_tokens


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
    if host.kind == GPU:
        expect_batching(row, host, fleet.profiles, load, prompt, output)
        if counts_gpu:
            charge_gpu(row, host, fleet.profiles, scene.gpu_usd_per_ps[engine], load[0], prompt, output)
        row.usd_cash = output * scene.usd_per_output_token[engine]
    elif host.kind == SERVERLESS:
        added = expect_function(row, host, fleet.profiles, load[0], prompt, output)
        row.usd_cash = added * scene.cash_usd_per_ps[engine] + output * scene.usd_per_output_token[engine]
    else:
        expect_api(row, host)
        row.usd_cash = prompt * scene.usd_per_input_token[engine] + output * scene.usd_per_output_token[engine]


@inner
def _idle_forecast(fleet: Fleet, engine: int, prompt: int, nodes: int, output: int) -> tuple[float, float]:
    """(ttft, tpot) in microseconds on the engine were it idle and held the prompt's first `nodes`."""
    host = fleet.engines[engine]
    ttft, tpot = forecast_batching(
        fleet.profiles,
        host.profile,
        host.max_num_seqs,
        host.max_num_batched_tokens,
        host.async_scheduling,
        host.blocks_total * host.block_size,
        0,
        0,
        0,
        prompt,
        nodes * fleet.node_tokens,
        output,
    )
    return ttft * US_PER_PS, tpot * US_PER_PS


@inner
def _reach(fleet: Fleet, scene: Scene, path: int, engine: int) -> int:
    """How many of the first `path` stretches of the router's path were ever sent to the engine, or to one that shares
    its bit: it holds no more. What was sent a stretch was sent all before it, so the answer is found by bisection;
    mostly at either end."""
    bit = 1 << (engine % MARKS)
    if path == 0 or scene.sent[fleet.router_path[path - 1]] & bit != 0:
        return path
    low, high = 0, path
    while high - low > 1:
        middle = (low + high) >> 1
        if scene.sent[fleet.router_path[middle - 1]] & bit != 0:
            low = middle
        else:
            high = middle
    return low


@inner
def _nodes_held(fleet: Fleet, engine: int, reach: int, most: int) -> int:
    """Of a prompt's first `most` nodes those cached on the engine, which was sent `reach` stretches of them."""
    matched = matching_stretches(fleet, engine, reach, reach)
    return min(most, nodes_cached(fleet, engine, fleet.router_path[matched - 1])) if matched > 0 else 0


@fused
def _is_out(ratio: float, usd: float, cheapest: float, late: float) -> bool:
    """Whether a candidate that is at least so late and so dear is sure not to be chosen: somebody who meets every
    objective is cheaper, or, while nobody does, less late."""
    if cheapest < np.inf:
        return ratio > 1.0 or usd > cheapest
    return ratio > 1.0 and ratio > late


@fused
def _sent(fleet: Fleet, scene: Scene, requests: Requests, index: int) -> tuple[int, int]:
    """How many leading stretches of a prompt were ever sent anywhere, which the router's path then holds, and how many
    nodes that are. One token at least is left to compute."""
    sent = requests.leaf[index]
    while sent != NIL and scene.sent[sent] == 0:
        sent = int(fleet.stretch_parent[sent])
    path = lay_path(fleet, sent)
    if path == 0:
        return 0, 0
    return path, min(int(fleet.stretch_depth[sent]), (requests.prompt_tokens[index] - 1) // fleet.node_tokens)


@fused
def fill_rows(
    rows: Records,
    fleet: Fleet,
    scene: Scene,
    requests: Requests,
    index: int,
    policy: np.record,
) -> tuple[int, int, int]:
    """A row per available candidate, for the policies that compare load; the place of row r is `scene.places[r]`.
    Returns how many rows, how many candidates fit the request's context and how many of those have a full queue."""
    now, prompt = requests.arrival[index], requests.prompt_tokens[index]
    path, most = _sent(fleet, scene, requests, index)
    list_index = requests.list_index[index]
    count, fitting, full = 0, 0, 0
    for place in range(scene.offset[list_index], scene.offset[list_index + 1]):
        engine: Any = np.int64(scene.candidate[place])  # one type of engine number, or every kernel compiles twice
        host = fleet.engines[engine]
        # The public API is not for these policies, so it saves no request of theirs from being too long.
        if host.kind == API or prompt + requests.output_tokens[index] > host.max_context:
            continue
        fitting += 1
        observe(fleet, engine, now, scene.period)
        row = rows[count]
        load = _fill_load(row, fleet, engine, scene, now)
        if load[0] >= host.max_num_seqs + host.max_waiting:
            full += 1
            continue
        scene.places[count] = place
        count += 1
        row.engine = engine
        row.kind = host.kind
        row.is_core = scene.is_core[engine]
        row.is_available = 1
        row.is_priced = 0
        row.prompt_tokens = prompt
        row.rtt_us = scene.rtt_us[place] + scene.access_us[requests.workload[index]]
        row.cached_tokens = 0
        if policy.algorithm == PREFIX_AFFINITY and most > 0:
            reach = _reach(fleet, scene, path, engine)
            row.cached_tokens = _nodes_held(fleet, engine, reach, most) * fleet.node_tokens
    return count, fitting, full


@fused
def fill_priced_rows(
    rows: Records,
    fleet: Fleet,
    scene: Scene,
    requests: Requests,
    index: int,
    number: int,
    request: np.record,
    policy: np.record,
) -> tuple[int, int, int]:
    """Rows for `grid`, priced: only of candidates that may still be chosen. Returns the same as `fill_rows`.

    Candidates come nearest first. A profile is out, and its further engines are passed over, when even an idle engine
    that held every node ever sent anywhere would lose to somebody seen before. Else the engine's load is looked at,
    and only if it still may win, were all nodes it was ever sent in its cache, the cache itself. The decision is that
    of pricing everyone: no profile gets faster with more work."""
    now, prompt, output = requests.arrival[index], requests.prompt_tokens[index], request.output_tokens
    path, most = _sent(fleet, scene, requests, index)
    list_index, access_us = requests.list_index[index], scene.access_us[requests.workload[index]]
    count, fitting, full, closed = 0, 0, 0, 0
    cheapest, late = np.inf, np.inf
    floor_ratio, floor_usd, floor_rtt, floor_profile = 0.0, 0.0, -1.0, -1
    for place in range(scene.offset[list_index], scene.offset[list_index + 1]):
        engine: Any = np.int64(scene.candidate[place])  # one type of engine number, or every kernel compiles twice
        memo = scene.idle[scene.profile_of[engine]]
        if memo[CLOSED] == number:
            if closed == scene.profiles[list_index] and place >= scene.last_place[list_index]:
                break
            continue
        host = fleet.engines[engine]
        if prompt + requests.output_tokens[index] > host.max_context:
            continue
        fitting += 1
        rtt_us = float(scene.rtt_us[place] + access_us)
        reach = 0
        if host.kind == GPU:
            if memo[NUMBER] != number:
                ttft_us, tpot_us = _idle_forecast(fleet, engine, prompt, most, output)
                memo[NUMBER], memo[TTFT], memo[TPOT] = number, ttft_us, tpot_us
            if host.profile != floor_profile or rtt_us != floor_rtt:
                floor_profile, floor_rtt = host.profile, rtt_us
                floor_ratio, floor_usd = least(rtt_us, memo[TTFT], memo[TPOT], request, policy)
            if _is_out(floor_ratio, floor_usd, cheapest, late):
                memo[CLOSED] = number
                closed += 1
                if closed == scene.profiles[list_index] and place >= scene.last_place[list_index]:
                    break
                continue
            reach = _reach(fleet, scene, path, engine)
        elif policy.allow_serverless == 0 if host.kind == SERVERLESS else policy.allow_fallback == 0:
            continue
        if host.kind != API:
            observe(fleet, engine, now, scene.period)
        row = rows[count]
        load = _fill_load(row, fleet, engine, scene, now)
        if load[0] >= host.max_num_seqs + host.max_waiting:
            full += 1
            continue
        row.engine = engine
        row.kind = host.kind
        row.is_core = scene.is_core[engine]
        row.is_available = 1
        row.prompt_tokens = prompt
        row.rtt_us = rtt_us
        cached = min(most, int(fleet.stretch_depth[fleet.router_path[reach - 1]])) if reach > 0 else 0
        for attempt in range(2):
            row.cached_tokens = cached * fleet.node_tokens
            _forecast(row, fleet, engine, scene, load, prompt, output, policy.gpu_weight > 0.0)
            price_candidate(row, request, policy)
            is_out = host.kind != API and _is_out(row.worst_ratio, row.usd, cheapest, late)
            if is_out or cached == 0 or attempt == 1:
                break
            held = _nodes_held(fleet, engine, reach, most)
            if held == cached:
                break
            cached = held
        if is_out:
            continue
        scene.places[count] = place
        count += 1
        if row.worst_ratio <= 1.0:
            cheapest = min(cheapest, row.usd)
        if host.kind != API:
            late = min(late, row.worst_ratio)
    return count, fitting, full
