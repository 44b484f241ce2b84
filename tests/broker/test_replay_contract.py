"""The promise of one router: what a replay's router is shown and decides, the live broker is shown and decides, too.

The witness of a replay gives a request at the moment of its decision: every engine's true load, what was known of it,
the rows, and the choice. The same loads, written on a board, must make the broker fill the same rows and choose alike.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from livegrids import grid, plan_of

from gridctl.broker.ask import NO_BLOCKS, Principal
from gridctl.broker.broker import Broker
from gridctl.broker.rows import COUNT, ENGINE_INDEX, decide_live
from gridctl.broker.scratch import idle_board
from gridctl.grid.image import build_image
from gridctl.replay.replay import replay
from gridctl.replay.witness import Sighting, witness
from gridctl.resources import PolicySpec
from gridctl.resources.policy import ALGORITHMS
from gridctl.routing.rows import CANDIDATE
from gridctl.signals.rows import FRESH
from gridctl.traces.trace import Trace

SEED = 3
NOW_NS = 10**12
REQUESTS = 400
NUMBERS = (0, 57, 211, 399)
KNOWN_TO_ALL = ("engine", "kind", "is_core", "is_available", "in_flight", "prompt_tokens", "cached_tokens", "rtt_us")


def _trace() -> Trace:
    """Four hundred requests in four seconds from three places: more than the near engines can take at once."""
    draw = np.random.default_rng(5)
    return Trace(
        name="contract",
        arrival_ns=np.sort(draw.integers(0, 4 * 10**9, REQUESTS)),
        input_tokens=draw.integers(20, 3000, REQUESTS),
        output_tokens=draw.integers(1, 200, REQUESTS),
        origin=draw.integers(0, 3, REQUESTS).astype(np.int32),
        workload=np.zeros(REQUESTS, np.int32),
        tenant=np.zeros(REQUESTS, np.int32),
        model=np.full(REQUESTS, -1, np.int32),
        session=draw.integers(0, 40, REQUESTS),
        block_tokens=16,
        block_offsets=np.zeros(REQUESTS + 1, np.int64),
        block_ids=np.zeros(0, np.int64),
        origins=("paris", "berlin", "zurich"),
        workloads=("chat",),
        tenants=("acme",),
    )


def _told(board: Any, sighting: Sighting) -> None:
    """Write on the board what the replay's router knew of every engine."""
    scene = sighting.stage.scene
    for row, host in enumerate(sighting.hosts):
        is_visible = host.scrape_time <= sighting.now_ps - scene.delay
        which = "scrape" if is_visible else "older"
        board.slots[0, row].kv_tokens = host.announced_kv - host.announced_kv // 3
        board.slots[1, row].kv_tokens = host.announced_kv // 3
        # Two workers share the count, as two processes would.
        board.slots[0, row].in_flight, board.slots[1, row].in_flight = host.in_flight // 3, -(-2 * host.in_flight // 3)
        board.slots[0, row].in_flight += host.in_flight - board.slots.in_flight[:, row].sum()
        board.slots[1, row].pending_tokens = host.pending_tokens
        seen = board.engines[row]
        seen.telemetry_state, seen.scrape_ns, seen.period_ns = FRESH, NOW_NS, 10**9
        seen.kv_used_tokens = host[f"{which}_kv_blocks"] * host.block_size
        seen.running, seen.waiting = host[f"{which}_running"], host[f"{which}_waiting"]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_live_decision_is_the_replays_decision(algorithm: str) -> None:
    policy = PolicySpec(algorithm=algorithm, gpu_weight=0.5, candidates=64)  # type: ignore[arg-type]
    resources = grid(policy=policy)
    image, trace = build_image(resources), _trace()
    run = replay(image, trace, policy, seed=SEED)
    board = idle_board(32, workers=2)
    broker = Broker(plan_of(resources), board, 0)
    assert broker.live.numbers == tuple(range(len(image.engines))), "every engine of this grid runs"
    loads = []
    for number in NUMBERS:
        sighting = witness(image, trace, policy, number, run.rows, seed=SEED)
        _told(board, sighting)
        loads.append(int(sighting.hosts.in_flight.sum()))
        origin = trace.origins[int(trace.origin[number])]
        group = broker.group_of(Principal("test", "client", "acme"), origin, "workload:chat")
        assert group.engines.tolist() == sighting.engines[sighting.is_listed].tolist()
        prompt, answer = int(sighting.requests.prompt_tokens[0]), int(sighting.requests.output_tokens[0])
        choice = decide_live(
            broker.sight,
            group.engines,
            group.rtt_us,
            NO_BLOCKS,
            0,
            prompt,
            prompt + answer,
            int(sighting.request.output_tokens),
            1,
            int(sighting.requests.draw[0]),
            int(sighting.requests.session[0]),
            int(sighting.request.turn),
            0,
            NOW_NS,
            0,
        )
        assert int(broker.sight.answer[ENGINE_INDEX]) == sighting.engine if choice >= 0 else sighting.engine is None
        ours = {int(row.engine): row for row in broker.sight.rows[: int(broker.sight.answer[COUNT])]}
        fields = CANDIDATE.names if algorithm == "grid" else KNOWN_TO_ALL
        assert fields is not None
        assert len(sighting.seen_rows) > 0
        for theirs in sighting.seen_rows:
            assert {name: ours[int(theirs.engine)][name] for name in fields} == {name: theirs[name] for name in fields}
    assert loads[0] == 0, "the first request finds an idle grid"
    assert min(loads[1:]) > 20, "the others find one under load"
