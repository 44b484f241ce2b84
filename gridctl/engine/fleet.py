"""Fleet: engines as specified → the twin's arrays. The only constructor of `Fleet`; owns dispatch into it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gridctl.engine.profile import StepProfile, stack_profiles
from gridctl.engine.queues import push_inbound
from gridctl.engine.state import (
    API,
    ENGINE,
    GPU,
    LEARNED,
    NEVER,
    NIL,
    PIECE,
    RESULT,
    SEQUENCE,
    SERVERLESS,
    SMALLEST_TABLE,
    TABLE_SIZE,
    UNUSED,
    Fleet,
    free_stack,
    hash_tables,
    records,
)
from gridctl.engine.stretches import NO_STRETCHES, Stretches
from gridctl.kernels import fused
from gridctl.units import PS_PER_MS

NO_LIMIT = 1 << 40


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """One engine, or one site's function instances (`max_num_seqs` of them), or the fallback API.

    Engines that share a `StepProfile` object share its table. `kv_blocks` is 0 where KV memory is not modelled.
    """

    kind: int
    profile: StepProfile | None = None
    max_num_seqs: int = 1
    max_num_batched_tokens: int = 512
    block_size: int = 16
    kv_blocks: int = 0
    max_context: int = NO_LIMIT
    gpus: int = 0
    prefix_caching: bool = True
    priority_scheduling: bool = False
    async_scheduling: bool = False
    max_waiting: int | None = None
    cold_start_ms: float = 0.0
    keep_warm_s: float = 0.0
    ttft_ms: float = 0.0
    tpot_ms: float = 0.0


def build_fleet(
    specs: list[EngineSpec],
    *,
    requests: int,
    workloads: int = 1,
    stretches: Stretches = NO_STRETCHES,
    node_tokens: int = 0,
    scrape_period: int = 10**12,
    in_flight: int = 1024,
    longest_jump: int = NO_LIMIT,
    paces: Sequence[StepProfile] = (),
) -> Fleet:
    """Idle engines, empty caches, and room for the results of `requests` requests.

    `stretches` are those of the trace's prefix nodes, which hold `node_tokens` tokens each (0: no prefixes).
    `paces` are profiles that engines may be switched to, the last of those in the tables.
    Scrapes are spread evenly over `scrape_period` (picoseconds), engine by engine, as scrapers do.
    """
    profiles: list[StepProfile] = []
    rows: dict[int, int] = {}
    for spec in specs:
        if spec.profile is not None and id(spec.profile) not in rows:
            rows[id(spec.profile)] = len(profiles)
            profiles.append(spec.profile)
    engines = records(len(specs), ENGINE)
    pieces = 1
    for index, spec in enumerate(specs):
        engine = engines[index]
        _fill_engine(engine, spec, rows[id(spec.profile)] if spec.profile is not None else 0)
        engine.longest_jump = longest_jump
        caches = spec.kind == GPU and spec.prefix_caching and node_tokens > 0 and node_tokens % spec.block_size == 0
        engine.prefix_caching = 1 if caches else 0
        if caches:
            pieces += spec.kv_blocks // (node_tokens // spec.block_size)
        phase = scrape_period * index // max(1, len(specs))
        engine.next_scrape = phase
        engine.scrape_time = engine.older_time = phase - scrape_period
    batch = max((spec.max_num_seqs for spec in specs), default=1)
    block = max((spec.block_size for spec in specs), default=1)
    instances = max((spec.max_num_seqs for spec in specs if spec.kind == SERVERLESS), default=1)
    books = np.zeros(4, np.int64)
    books[TABLE_SIZE] = SMALLEST_TABLE
    path = stretches.longest + 1
    results = records(requests, RESULT)
    results.scheduled = results.first_token = results.last_token = NIL
    return Fleet(
        engines=engines,
        sequences=records(in_flight, SEQUENCE),
        free_sequences=free_stack(in_flight),
        finishing=np.zeros((len(specs), batch + 1), np.int64),
        phases=np.zeros((len(specs), block), np.int64),
        idle_since=np.zeros((len(specs), instances + 1), np.int64),
        pieces=records(pieces, PIECE),
        spare_pieces=np.zeros(pieces, np.int64),
        table=hash_tables(pieces),
        books=books,
        stretch_parent=stretches.parent,
        stretch_depth=stretches.depth,
        holders=np.zeros(len(stretches.parent), np.int32),
        router_path=np.zeros(path, np.int64),
        engine_path=np.zeros(path, np.int64),
        node_tokens=max(1, node_tokens),
        profiles=stack_profiles([*profiles, *paces]),
        results=results,
        learned=records(workloads, LEARNED),
    )


def _fill_engine(engine: np.record, spec: EngineSpec, profile: int) -> None:
    """Write a spec into its record; every list is empty, every block free."""
    for field in (
        "prefilling",
        "running_head",
        "running_tail",
        "waiting_head",
        "waiting_tail",
        "inbound_head",
        "inbound_tail",
        "lru_oldest",
        "lru_newest",
    ):
        setattr(engine, field, NIL)
    engine.kind = spec.kind
    engine.profile = engine.pace = profile
    engine.max_num_seqs = spec.max_num_seqs
    engine.max_num_batched_tokens = spec.max_num_batched_tokens
    engine.block_size = spec.block_size
    engine.blocks_total = engine.free_blocks = spec.kv_blocks if spec.kind == GPU else NO_LIMIT
    engine.priority_scheduling = 1 if spec.priority_scheduling else 0
    engine.async_scheduling = 1 if spec.async_scheduling else 0
    engine.max_waiting = NO_LIMIT if spec.max_waiting is None else spec.max_waiting
    engine.max_context = (
        min(spec.max_context, spec.kv_blocks * spec.block_size) if spec.kind == GPU else spec.max_context
    )
    engine.gpus = spec.gpus
    engine.cold_start = round(spec.cold_start_ms * PS_PER_MS)
    engine.keep_warm = round(spec.keep_warm_s * 1000 * PS_PER_MS)
    engine.api_ttft = round(spec.ttft_ms * PS_PER_MS)
    engine.api_tpot = round(spec.tpot_ms * PS_PER_MS)
    assert spec.kind in (GPU, SERVERLESS, API, UNUSED)
    assert engine.keep_warm < NEVER


@fused
def dispatch(
    fleet: Fleet,
    engine: int,
    request: int,
    workload: int,
    priority: int,
    arrival: int,
    prompt_tokens: int,
    output_tokens: int,
    leaf: int,
    blocks_full: int,
    announced_tokens: int,
    expected_tokens: int,
) -> None:
    """Put a request on the wire to `engine`, where it arrives at `arrival`.

    `blocks_full` counts the prompt's whole prefix nodes, the last of them in stretch `leaf`; `announced_tokens` is the
    prefill the router expects, which it counts as pending until the first token comes back, and `expected_tokens` the
    output: until the request has ended, the router counts its prompt and half of that as KV. The caller has seen to it
    that a sequence slot is free and that the request fits the engine's context.
    """
    host = fleet.engines[engine]
    if host.kind == API:
        result = fleet.results[request]
        result.scheduled = arrival
        result.first_token = arrival + host.api_ttft
        result.last_token = result.first_token + (output_tokens - 1) * host.api_tpot
        return
    height = fleet.free_sequences[0]
    slot = fleet.free_sequences[height]
    fleet.free_sequences[0] = height - 1
    sequence = fleet.sequences[slot]
    sequence.request = request
    sequence.workload = workload
    sequence.arrival = arrival
    sequence.priority = priority
    sequence.prompt_tokens = prompt_tokens
    sequence.output_tokens = output_tokens
    sequence.generated = 0
    sequence.target = prompt_tokens
    sequence.computed = 0
    sequence.chunk = 0
    sequence.phase = 0
    sequence.finish_step = 0
    sequence.leaf = leaf
    sequence.blocks_full = blocks_full
    sequence.pinned = 0
    sequence.deepest = NIL
    sequence.announced_tokens = announced_tokens
    sequence.announced_kv = prompt_tokens + (expected_tokens >> 1)
    sequence.cached_tokens = 0
    sequence.scheduled = NIL
    sequence.first_token = NIL
    sequence.preemptions = 0
    sequence.share_start = 0
    sequence.share = 0
    host.in_flight += 1
    host.pending_tokens += announced_tokens
    host.announced_kv += sequence.announced_kv
    # Amid a step an arrival waits for its end; before a finish of functions or on an idle engine it may come first.
    # What is sent to a lost engine stays on the wire.
    if host.is_lost == 0:
        if host.kind == SERVERLESS or (host.running == 0 and host.waiting == 0):
            host.quiet_until = min(host.quiet_until, arrival + 1)
        host.calm_until = min(host.calm_until, arrival + 1)
    push_inbound(fleet, engine, slot)
