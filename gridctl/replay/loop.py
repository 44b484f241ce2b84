"""The replay loop: virtual time over requests, compiled. Fill candidate rows from the twin, `route`, dispatch.

Requests are decided in order of arrival. An engine is advanced only when somebody looks at it: to the moment of the
look, never beyond, so no decision sees the future. What the router sees of an engine is its own in-flight counters,
which are exact because every response passes through it, and the last scrape that is at least `delay` old; prefix
matches are what an engine's KV events would tell, which arrive within milliseconds and are taken to be current.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gridctl.accounts.rows import (
    COMPLETED,
    FAILED,
    INFEASIBLE,
    NO_MODEL,
    NO_REASON,
    QUEUE_FULL,
    REJECTED,
    TOO_LONG,
)
from gridctl.engine.blocks import matching_nodes
from gridctl.engine.clock import observe
from gridctl.engine.fleet import dispatch
from gridctl.engine.forecast import added_gpu_time, forecast_batching, forecast_serverless
from gridctl.engine.state import API, GPU, SERVERLESS, Fleet
from gridctl.kernels import Records, compiled, fused
from gridctl.routing.price import least_usd, price_candidate
from gridctl.routing.route import REFUSED, route
from gridctl.routing.rows import BATCHING, FUNCTION, GRID, PREFIX_AFFINITY, PUBLIC_API
from gridctl.units import PS_PER_S, PS_PER_US

US_PER_PS = 1.0 / PS_PER_US
LEARNING_PERIOD = 10 * PS_PER_S
"""How often the router takes over what finished requests taught."""
PRIOR_REQUESTS = 16
"""How many finished requests the workload's declared mean output length weighs as much as."""


class Requests(NamedTuple):
    """A chunk of requests, columns `(n,)`; times in picoseconds. `jitter_ppm` stretches the round trip."""

    arrival: NDArray[np.int64]
    list_index: NDArray[np.int64]
    workload: NDArray[np.int64]
    prompt_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    blocks_first: NDArray[np.int64]
    blocks_full: NDArray[np.int64]
    jitter_ppm: NDArray[np.int64]
    draw: NDArray[np.int64]
    session: NDArray[np.int64]


class Outcomes(NamedTuple):
    """What the router did with each request, columns `(n,)` over the whole run."""

    engine: NDArray[np.int64]
    outcome: NDArray[np.int64]
    reason: NDArray[np.int64]
    rtt: NDArray[np.int64]


class Scene(NamedTuple):
    """What a run is played on. Per list: `offset`, `reason`, `turns` (round-robin counters); per candidate:
    `candidate`, `rtt_us`; per engine: prices and tier; per workload: access time, priority, declared mean output.
    `sent` tells of each prefix node whether it ever went to an engine; `lessons` is what the router has learned of
    output lengths, taken over again from `next_lesson` on; `idle` is scratch, `(n_profiles, 3)`."""

    offset: NDArray[np.int64]
    candidate: NDArray[np.int64]
    rtt_us: NDArray[np.int64]
    reason: NDArray[np.int64]
    turns: NDArray[np.int64]
    is_core: NDArray[np.int64]
    gpu_usd_per_ps: NDArray[np.float64]
    cash_usd_per_ps: NDArray[np.float64]
    usd_per_input_token: NDArray[np.float64]
    usd_per_output_token: NDArray[np.float64]
    access_us: NDArray[np.int64]
    priority: NDArray[np.int64]
    mean_output_tokens: NDArray[np.int64]
    sent: NDArray[np.bool_]
    lessons: Records
    next_lesson: NDArray[np.int64]
    idle: NDArray[np.float64]
    period: int
    delay: int
    counts_in_flight: int


@fused
def _expected_output(scene: Scene, workload: int) -> int:
    """Mean output length of the workload as last learned, the declared mean counting as a few finished requests."""
    lesson = scene.lessons[workload]
    finished = lesson.finished + PRIOR_REQUESTS
    total = lesson.output_tokens + PRIOR_REQUESTS * scene.mean_output_tokens[workload]
    return max(1, total // finished)


@fused
def _learn(fleet: Fleet, scene: Scene, now: int) -> None:
    """At the first decision of a learning period, bring every engine to the period's start and take over what has
    finished by then. What the router knows thus never depends on which engines it happened to look at."""
    if now < scene.next_lesson[0]:
        return
    start = now - now % LEARNING_PERIOD
    scene.next_lesson[0] = start + LEARNING_PERIOD
    for engine in range(len(fleet.engines)):
        observe(fleet, engine, start, scene.period)
    for workload in range(len(scene.lessons)):
        scene.lessons[workload].finished = fleet.learned[workload].finished
        scene.lessons[workload].output_tokens = fleet.learned[workload].output_tokens


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
def _fill_rows(
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
    first, blocks = requests.blocks_first[index], requests.blocks_full[index]
    # How many leading nodes some engine is known to hold. Engines publish what they compute when they are advanced, so
    # the count grows as candidates are looked at; what those not looked at hold is bounded by what was ever sent.
    known, most = 0, 0
    while most < min(blocks, (prompt - 1) // fleet.node_tokens) and scene.sent[fleet.block_ids[first + most]]:
        most += 1
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
            while known < most and fleet.holders[fleet.block_ids[first + known]] > 0:
                known += 1
            matched = matching_nodes(fleet, engine, first, known, matched)
            row.cached_tokens = matched * fleet.node_tokens
        if is_grid:
            _forecast(row, fleet, engine, scene, load, prompt, request.output_tokens, policy.gpu_weight > 0.0)
            price_candidate(row, request, policy)
            is_offered = row.kind == BATCHING or (
                policy.allow_serverless == 1 if row.kind == FUNCTION else policy.allow_fallback == 1
            )
            if row.worst_ratio <= 1.0 and is_offered:
                cheapest = min(cheapest, row.usd)
    return fitting, full


@fused
def _refusal(choice: int, fitting: int, full: int) -> tuple[int, int]:
    """Outcome and reason of a request that was given to nobody."""
    if choice == REFUSED:
        return REJECTED, INFEASIBLE
    if fitting == 0:
        return FAILED, TOO_LONG
    if full > 0:
        return REJECTED, QUEUE_FULL
    return REJECTED, NO_MODEL


@compiled
def replay_chunk(
    fleet: Fleet,
    scene: Scene,
    requests: Requests,
    offset: int,
    outcomes: Outcomes,
    rows: Records,
    templates: Records,
    policies: Records,
) -> None:
    """Route and dispatch a chunk whose first request is number `offset` of the run.

    `rows` has room for the longest candidate list; `templates` holds one request record per workload; `policies` one
    policy. The fleet must have a free sequence slot for every request of the chunk."""
    policy = policies[0]
    for index in range(len(requests.arrival)):
        number = offset + index
        which, workload = requests.list_index[index], requests.workload[index]
        count = scene.offset[which + 1] - scene.offset[which]
        if count == 0:
            outcomes.outcome[number] = REJECTED
            outcomes.reason[number] = scene.reason[which]
            continue
        request = templates[workload]
        _learn(fleet, scene, requests.arrival[index])
        request.output_tokens = _expected_output(scene, workload)
        request.turn = scene.turns[which]
        request.draw = requests.draw[index]
        request.session = requests.session[index]
        scene.turns[which] += 1
        fitting, full = _fill_rows(rows, fleet, scene, requests, index, number, request, policy)
        choice = route(rows, count, request, policy)
        if choice < 0:
            outcomes.outcome[number], outcomes.reason[number] = _refusal(choice, fitting, full)
            continue
        row = rows[choice]
        place = scene.offset[which] + choice
        wire = scene.rtt_us[place] * (1_000_000 + requests.jitter_ppm[index])
        rtt = wire + scene.access_us[workload] * PS_PER_US
        outcomes.engine[number] = row.engine
        outcomes.outcome[number] = COMPLETED
        outcomes.reason[number] = NO_REASON
        outcomes.rtt[number] = rtt
        dispatch(
            fleet,
            row.engine,
            number,
            workload,
            scene.priority[workload],
            requests.arrival[index] + rtt // 2,
            requests.prompt_tokens[index],
            requests.output_tokens[index],
            requests.blocks_first[index],
            requests.blocks_full[index],
            requests.prompt_tokens[index] - row.cached_tokens,
        )
        for node in range(requests.blocks_first[index], requests.blocks_first[index] + requests.blocks_full[index]):
            scene.sent[fleet.block_ids[node]] = True
