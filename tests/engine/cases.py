"""Random loads for the engine twin, the same load on the oracle, and the twin's books audited between two events.

A case is made from a `pick(low, high)` function, so hypothesis and a seeded generator make the same kind of cases.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from stepping import Arrival, Costs, Limits, Outcome, SteppedEngine

from gridctl.engine.blocks import KEY_BITS, find_piece, nodes_cached
from gridctl.engine.clock import advance, drain, observe
from gridctl.engine.fleet import NO_LIMIT, EngineSpec, build_fleet, dispatch
from gridctl.engine.profile import StepProfile
from gridctl.engine.queues import SLOT_BITS
from gridctl.engine.state import ENTRIES, FRESH, GPU, NIL, SPARE, TABLE_SIZE, Fleet
from gridctl.engine.stretches import Stretches, StretchFinder
from gridctl.kernels import compiled
from gridctl.traces.spans import spans_of

Pick = Callable[[int, int], int]
ROUND = 100
COLUMNS = ("scheduled", "first_token", "last_token", "cached_tokens", "preemptions", "share")


SEEN = (
    "in_flight", "pending_tokens", "announced_kv", "scrape_time", "scrape_running", "scrape_waiting",
    "scrape_pending_tokens",
    "scrape_kv_blocks", "older_time", "older_running", "older_waiting", "older_pending_tokens", "older_kv_blocks",
)  # fmt: skip
"""Fields of an engine's record that a router reads."""


@compiled
def _locate(fleet: Fleet, engine: int, stretch: int) -> int:
    """The first piece of a stretch, as the kernels find it."""
    return find_piece(fleet, engine, stretch)


@compiled
def _held(fleet: Fleet, engine: int, stretch: int) -> int:
    """How many leading nodes of a prompt through the stretch the engine caches, when it has some of the stretch."""
    return nodes_cached(fleet, engine, stretch)


@dataclass(frozen=True)
class Load:
    """One request: sent to `engine` at `sent`, there at `arrival`."""

    engine: int
    sent: int
    arrival: int
    priority: int
    prompt: int
    output: int
    prefix: tuple[int, ...]


@dataclass(frozen=True)
class Query:
    """A look at an engine: `observe` with the case's period, or a bare `advance`."""

    engine: int
    time: int
    observes: bool


@dataclass(frozen=True)
class Case:
    """Engines that share one fleet, what they serve, and when somebody looks."""

    limits: tuple[Limits, ...]
    costs: tuple[Costs, ...]
    loads: tuple[Load, ...]
    queries: tuple[Query, ...]
    period: int


def _limits(pick: Pick, node_tokens: int) -> Limits:
    """All but the memory, which must hold the longest request."""
    max_num_seqs = pick(1, 8) if pick(0, 3) > 0 else pick(9, 24)
    divisors = [size for size in range(1, node_tokens + 1) if node_tokens % size == 0]
    return Limits(
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=pick(max_num_seqs, 64),
        block_size=pick(1, 12) if pick(0, 5) == 0 else divisors[pick(0, len(divisors) - 1)],
        kv_blocks=0,
        node_tokens=node_tokens,
        prefix_caching=pick(0, 4) > 0,
        priority_scheduling=pick(0, 2) == 0,
        async_scheduling=pick(0, 1) == 0,
    )


def _round_costs(limits: Limits) -> Costs:
    """Every step takes one unit of time, so steps end just when requests arrive and somebody looks."""
    width = limits.max_num_batched_tokens + 1
    nothing = (0,) * width
    return Costs(
        (ROUND,) * width, (0,) * (limits.max_num_seqs + 1), (((0, 0, 0),),), (((0, 0, 0),),), 0, nothing, nothing
    )


def _rows(pick: Pick, limits: Limits) -> tuple[tuple[tuple[int, int, int], ...], ...]:
    """KV times for no, one, two … decodes; the last row serves all above it."""
    rows = []
    for _ in range(pick(1, limits.max_num_seqs + 1)):
        knots = [0]
        for _ in range(pick(0, 3)):
            knots.append(knots[-1] + pick(1, 60))
        rows.append(tuple((knot, pick(0, 400), pick(0, 25)) for knot in knots))
    return tuple(rows)


def _costs(pick: Pick, limits: Limits) -> Costs:
    base, per_token, jitter = pick(1, 500), pick(0, 40), pick(1, 97)
    dense = tuple(
        base + per_token * tokens + tokens * 31 % jitter for tokens in range(limits.max_num_batched_tokens + 1)
    )
    sample = tuple(pick(0, 30) for _ in range(limits.max_num_seqs + 1))
    pair, latency = pick(0, 4), pick(0, 50)
    counts = range(limits.max_num_batched_tokens + 1)
    return Costs(
        dense=dense,
        sample=sample,
        decode=_rows(pick, limits),
        mixed=_rows(pick, limits),
        cross=pick(0, 5),
        chunk=tuple(pair * tokens * (tokens + 1) // 2 for tokens in counts),
        chunk_kv=tuple(pair * tokens + latency for tokens in counts),
    )


def _prefix(pick: Pick, ids: dict[tuple[int, ...], int], length: int) -> tuple[int, ...]:
    """A path down a small tree of prefixes: equal ids mean equal tokens up to there."""
    path: tuple[int, ...] = ()
    nodes = []
    for _ in range(length):
        path = (*path, 0 if pick(0, 3) > 0 else pick(1, 2))
        nodes.append(ids.setdefault(path, len(ids)))
    return tuple(nodes)


def make_case(pick: Pick, requests: int) -> Case:
    """One or two engines with little memory under a load that comes in bursts."""
    node_tokens = pick(1, 12)
    limits = [_limits(pick, node_tokens) for _ in range(pick(1, 2))]
    is_round = pick(0, 4) == 0
    unit = ROUND if is_round else 1
    costs = [_round_costs(limit) if is_round else _costs(pick, limit) for limit in limits]
    ids: dict[tuple[int, ...], int] = {}
    loads, arrival = [], 0
    gap = pick(0, 3000 // unit)
    for _ in range(requests):
        arrival += 0 if pick(0, 2) == 0 else pick(0, gap) * unit
        prompt, output = pick(1, 60), pick(1, 30)
        prefix = _prefix(pick, ids, min(prompt // node_tokens, pick(0, 8)))
        wire = pick(0, min(arrival, 2000) // unit) * unit
        engine = pick(0, len(limits) - 1)
        loads.append(Load(engine, arrival - wire, arrival, pick(0, 3), prompt, output, prefix))
    for index, limit in enumerate(limits):
        longest = max((load.prompt + load.output for load in loads if load.engine == index), default=1)
        blocks = -(-longest // limit.block_size)
        limits[index] = Limits(**{**vars(limit), "kv_blocks": blocks + pick(0, blocks)})
    queries = tuple(
        Query(pick(0, len(limits) - 1), pick(0, (2 * arrival + 1000) // unit) * unit, pick(0, 1) == 0)
        for _ in range(pick(0, 30))
    )
    return Case(tuple(limits), tuple(costs), tuple(loads), queries, pick(1, 5000))


def large_case(generator: random.Random, priority_scheduling: bool) -> Case:
    """An engine of everyday size, with the step times of an 8B model, short of memory; a quarter of a thousand
    requests of up to 6,200 tokens that share prefixes of 512."""
    limits = Limits(128, 2048, 16, 2500, 512, True, priority_scheduling, not priority_scheduling)
    costs = Costs(
        dense=tuple(9_750_000_000 + 34_700_000 * max(0, tokens - 270) for tokens in range(2049)),
        sample=(0, *(715_000_000 + 1000 * sequences for sequences in range(1, 129))),
        decode=(((0, 0, 89_199), (20_000, 20_000 * 89_199, 101_000)),),
        mixed=(((0, 0, 160_001),),),
        cross=22_000,
        chunk=tuple(1_303 * tokens * (tokens + 1) // 2 for tokens in range(2049)),
        chunk_kv=tuple(700_000 + 1_303 * tokens for tokens in range(2049)),
    )
    ids: dict[tuple[int, ...], int] = {}
    loads, arrival = [], 0
    for _ in range(250):
        arrival += round(generator.expovariate(1 / 60e9))
        prompt = generator.choice([200, 900, 3000, 6000]) + generator.randint(0, 200)
        path: tuple[int, ...] = (generator.randint(0, 5),)
        prefix = []
        for depth in range(prompt // 512):
            prefix.append(ids.setdefault(path, len(ids)))
            path = (*path, 0 if depth < 4 else generator.randint(0, 2))
        sent = max(0, arrival - generator.randint(0, 10**11))
        output = max(1, round(generator.expovariate(1 / 120)))
        loads.append(Load(0, sent, arrival, generator.randint(0, 2), prompt, output, tuple(prefix)))
    queries = tuple(Query(0, generator.randint(0, 2 * arrival), generator.random() < 0.5) for _ in range(300))
    return Case((limits,), (costs,), tuple(loads), queries, 10**12)


def oracle(case: Case) -> tuple[dict[int, Outcome], Counter[str], list[SteppedEngine]]:
    """What the stepped engines make of the case; dispatches of one moment are in the order of the requests."""
    outcomes: dict[int, Outcome] = {}
    seen: Counter[str] = Counter()
    engines = []
    sent = sorted(range(len(case.loads)), key=lambda request: (case.loads[request].sent, request))
    for index, (limits, costs) in enumerate(zip(case.limits, case.costs, strict=True)):
        engine = SteppedEngine(limits, costs)
        arrivals = [
            Arrival(request, load.arrival, order, load.priority, load.prompt, load.output, load.prefix)
            for order, request in enumerate(sent)
            if (load := case.loads[request]).engine == index
        ]
        outcomes |= engine.run(arrivals)
        seen += engine.seen
        engines.append(engine)
    return outcomes, seen, engines


def _prefixes(case: Case) -> tuple[Stretches, list[int]]:
    """The stretches of the case's prefixes, and each load's leaf."""
    counts = np.array([len(load.prefix) for load in case.loads], np.int64)
    nodes = np.array([node for load in case.loads for node in load.prefix], np.int64)
    finder = StretchFinder(int(nodes.max(initial=-1)) + 1)
    spans = spans_of(nodes, np.concatenate([[0], np.cumsum(counts)]))
    finder.mark(*spans, counts)
    finder.number()
    assert finder.link(*spans, counts)
    return finder.stretches(), finder.leaves(*spans, counts).tolist()


def profile_of(costs: Costs) -> StepProfile:
    """The oracle's costs as the twin takes them."""
    return StepProfile(
        dense_ps=np.array(costs.dense, np.int64),
        sample_ps=np.array(costs.sample, np.int64),
        decode=costs.decode,
        mixed=costs.mixed,
        cross_ps=costs.cross,
        chunk_ps=np.array(costs.chunk, np.int64),
        chunk_kv_ps=np.array(costs.chunk_kv, np.int64),
        source="test",
    )


def _fleet(case: Case, stretches: Stretches, longest_jump: int, paces: Sequence[StepProfile] = ()) -> Fleet:
    specs = [
        EngineSpec(
            kind=GPU,
            profile=profile_of(costs),
            max_num_seqs=limits.max_num_seqs,
            max_num_batched_tokens=limits.max_num_batched_tokens,
            block_size=limits.block_size,
            kv_blocks=limits.kv_blocks,
            prefix_caching=limits.prefix_caching,
            priority_scheduling=limits.priority_scheduling,
            async_scheduling=limits.async_scheduling,
        )
        for limits, costs in zip(case.limits, case.costs, strict=True)
    ]
    return build_fleet(
        specs,
        requests=len(case.loads),
        stretches=stretches,
        node_tokens=case.limits[0].node_tokens,
        scrape_period=case.period,
        in_flight=len(case.loads),
        longest_jump=longest_jump,
        paces=paces,
    )


def twin(
    case: Case,
    *,
    longest_jump: int = NO_LIMIT,
    with_queries: bool = True,
    audits: bool = False,
    acts: Sequence[tuple[int, Callable[[Fleet], None]]] = (),
    paces: Sequence[StepProfile] = (),
) -> Fleet:
    """Serve the case on the twin; with `audits`, its books are checked after every event. Each of `acts` is done at its
    time, before anything else of that time."""
    stretches, leaves = _prefixes(case)
    fleet = _fleet(case, stretches, longest_jump, paces)
    events = [(time, -1, index) for index, (time, _) in enumerate(acts)]
    events += [(load.sent, 1, request) for request, load in enumerate(case.loads)]
    if with_queries:
        events += [(query.time, 0, index) for index, query in enumerate(case.queries)]
    for time, is_dispatch, index in sorted(events):
        if is_dispatch < 0:
            acts[index][1](fleet)
        elif is_dispatch:
            load = case.loads[index]
            full = len(load.prefix)
            dispatch(
                fleet, load.engine, index, 0, load.priority, load.arrival, load.prompt, load.output, leaves[index],
                full, load.prompt, load.output,
            )  # fmt: skip
        elif case.queries[index].observes:
            observe(fleet, case.queries[index].engine, time, case.period)
        else:
            advance(fleet, case.queries[index].engine, time)
        if audits:
            audit(fleet)
    drain(fleet)
    if audits:
        audit(fleet)
    return fleet


def sights(case: Case, *, steps: bool = False) -> list[tuple[int, ...]]:
    """What a router sees of the engine at each of the case's queries that observe: counters, scrapes, and which
    stretches of the case it holds how far. With `steps`, engines go step by step and forget until when nothing
    happens."""
    stretches, leaves = _prefixes(case)
    fleet = _fleet(case, stretches, 1 if steps else NO_LIMIT)
    events = [(load.sent, 1, request) for request, load in enumerate(case.loads)]
    events += [(query.time, 0, index) for index, query in enumerate(case.queries) if query.observes]
    seen = []
    for time, is_dispatch, index in sorted(events):
        if is_dispatch:
            load = case.loads[index]
            dispatch(
                fleet, load.engine, index, 0, load.priority, load.arrival, load.prompt, load.output, leaves[index],
                len(load.prefix), load.prompt, load.output,
            )  # fmt: skip
        else:
            engine = case.queries[index].engine
            if steps:
                fleet.engines["calm_until"][engine] = fleet.engines["quiet_until"][engine] = 0
            observe(fleet, engine, time, case.period)
            held = [int(_held(fleet, engine, stretch)) for stretch in range(len(stretches.parent))]
            seen.append((*(int(fleet.engines[field][engine]) for field in SEEN), *held))
    return seen


def _walk(fleet: Fleet, head: int, tail: int) -> list[int]:
    """The slots of a doubly linked list, checked in both directions."""
    slots: list[int] = []
    while head != NIL:
        assert fleet.sequences[head].previous == (slots[-1] if slots else NIL)
        slots.append(int(head))
        head = fleet.sequences[head].next
    assert tail == (slots[-1] if slots else NIL)
    return slots


def audit(fleet: Fleet) -> None:
    """Every list, count and block of the fleet agrees with the sequences and nodes it stands for."""
    used: list[int] = []
    pins: Counter[int] = Counter()
    for engine in range(len(fleet.engines)):
        slots = _audit_batch(fleet, engine)
        used += slots
        _audit_blocks(fleet, engine, pins)
    free = list(fleet.free_sequences[1 : fleet.free_sequences[0] + 1])
    assert sorted([*used, *free]) == list(range(len(fleet.sequences)))
    heads = {int(key): int(piece) for key, piece in fleet.table if key != 0}
    assert len(heads) == fleet.books[ENTRIES] <= fleet.books[TABLE_SIZE] // 2
    alive = [piece for head in heads.values() for piece in _pieces_from(fleet, head)]
    spare = [int(piece) for piece in fleet.spare_pieces[: fleet.books[SPARE]]]
    assert sorted([*alive, *spare]) == list(range(fleet.books[FRESH]))
    for key, head in heads.items():
        assert _locate(fleet, (key >> KEY_BITS) - 1, key & ((1 << KEY_BITS) - 1)) == head
    holders = Counter(key & ((1 << KEY_BITS) - 1) for key in heads)
    assert [holders[stretch] for stretch in range(len(fleet.holders))] == list(fleet.holders)
    for piece in alive:
        record = fleet.pieces[piece]
        assert record.pins == pins[piece]
        parent = int(record.parent)
        assert record.start == (0 if parent == NIL else fleet.pieces[parent].end) < record.end
        assert parent == NIL or (parent in alive and pins[parent] >= pins[piece])


def _pieces_from(fleet: Fleet, head: int) -> list[int]:
    """All pieces of a stretch on an engine."""
    pieces = []
    while head != NIL:
        assert not pieces or fleet.pieces[head].parent == pieces[-1]
        assert not pieces or fleet.pieces[head].key == fleet.pieces[pieces[-1]].key
        pieces.append(int(head))
        head = fleet.pieces[head].below
    return pieces


def _audit_batch(fleet: Fleet, engine: int) -> list[int]:
    host = fleet.engines[engine]
    inbound = _walk(fleet, host.inbound_head, host.inbound_tail)
    waiting = _walk(fleet, host.waiting_head, host.waiting_tail)
    running = _walk(fleet, host.running_head, host.running_tail)
    assert (host.inbound, host.waiting, host.running) == (len(inbound), len(waiting), len(running))
    assert host.running <= host.max_num_seqs
    assert host.in_flight == len(inbound) + len(waiting) + len(running)
    arrivals = [fleet.sequences[slot].arrival for slot in inbound]
    assert arrivals == sorted(arrivals)
    decoding = [slot for slot in running if fleet.sequences[slot].finish_step > 0]
    heap = [int(key) for key in fleet.finishing[engine, : host.decoding]]
    assert sorted(key & ((1 << SLOT_BITS) - 1) for key in heap) == sorted(decoding)
    assert all(heap[(at - 1) >> 1] <= heap[at] for at in range(1, len(heap)))
    assert host.kv_tokens == sum(_stored(fleet, engine, slot) for slot in decoding)
    phases = Counter(int(_stored(fleet, engine, slot) - host.decode_steps) % host.block_size for slot in decoding)
    assert [phases[phase] for phase in range(host.block_size)] == list(fleet.phases[engine, : host.block_size])
    everyone = inbound + waiting + running
    pending = [slot for slot in everyone if fleet.sequences[slot].first_token < 0]
    assert host.pending_tokens == sum(fleet.sequences[slot].announced_tokens for slot in pending)
    assert host.announced_kv == sum(
        fleet.sequences[slot].prompt_tokens + fleet.sequences[slot].output_tokens // 2 for slot in everyone
    )
    return everyone


def _stored(fleet: Fleet, engine: int, slot: int) -> int:
    """KV tokens a decode holds, from what it still has to produce."""
    sequence = fleet.sequences[slot]
    left = sequence.finish_step - fleet.engines[engine].decode_steps
    return int(sequence.prompt_tokens + sequence.output_tokens - left - 1)


def _audit_blocks(fleet: Fleet, engine: int, pins: Counter[int]) -> None:
    """The invariant of `blocks`, and every pin has a sequence that holds it."""
    host = fleet.engines[engine]
    per_node = fleet.node_tokens // host.block_size
    private = 0
    for slot in _walk(fleet, host.running_head, host.running_tail):
        sequence = fleet.sequences[slot]
        if sequence.finish_step > 0:
            tokens = _stored(fleet, engine, slot) + (1 if host.step_end > 0 else 0)
        else:
            tokens = sequence.computed + sequence.chunk
        private += -(-tokens // host.block_size) - sequence.pinned * per_node
        piece, end = int(sequence.deepest), sequence.pinned
        path = _path(fleet, int(sequence.leaf))
        while piece != NIL:
            record = fleet.pieces[piece]
            assert record.end == end
            assert record.key >> KEY_BITS == engine + 1
            assert record.key & ((1 << KEY_BITS) - 1) in path
            pins[piece] += 1
            piece, end = int(record.parent), record.start
        assert end == 0
    heads = [int(piece) for key, piece in fleet.table if key >> KEY_BITS == engine + 1]
    pieces = [piece for head in heads for piece in _pieces_from(fleet, head)]
    pinned = [piece for piece in pieces if fleet.pieces[piece].pins > 0]
    cached = [piece for piece in pieces if fleet.pieces[piece].pins == 0]
    linked, piece = [], host.lru_oldest
    while piece != NIL:
        assert fleet.pieces[piece].older == (linked[-1] if linked else NIL)
        linked.append(int(piece))
        piece = fleet.pieces[piece].newer
    assert host.lru_newest == (linked[-1] if linked else NIL)
    assert sorted(linked) == sorted(cached)
    assert host.cached_blocks == _nodes_in(fleet, cached) * per_node
    assert host.free_blocks >= 0
    assert host.free_blocks + host.cached_blocks + _nodes_in(fleet, pinned) * per_node + private == host.blocks_total


def _path(fleet: Fleet, stretch: int) -> set[int]:
    """A stretch and all before it."""
    path = set()
    while stretch != NIL:
        path.add(stretch)
        stretch = int(fleet.stretch_parent[stretch])
    return path


def _nodes_in(fleet: Fleet, pieces: list[int]) -> int:
    return sum(int(fleet.pieces[piece].end - fleet.pieces[piece].start) for piece in pieces)
