"""The replay loop: virtual time over requests, compiled. Fill candidate rows, `route`, dispatch.

Requests are decided in order of arrival. What the router learns of output lengths it takes over at fixed moments, so
that it never depends on which engines were looked at.
"""

from __future__ import annotations

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
from gridctl.engine.clock import drain, observe
from gridctl.engine.fleet import dispatch
from gridctl.engine.state import NIL, Fleet
from gridctl.kernels import Records, compiled, fused
from gridctl.replay.scene import MARKS, Outcomes, Requests, Scene
from gridctl.replay.sight import fill_priced_rows, fill_rows
from gridctl.routing.route import REFUSED, route
from gridctl.routing.rows import GRID
from gridctl.units import PS_PER_S, PS_PER_US

LEARNING_PERIOD = 10 * PS_PER_S
"""How often the router takes over what finished requests taught."""
PRIOR_REQUESTS = 16
"""How many finished requests the workload's declared mean output length weighs as much as."""


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
    outcomes: Outcomes,
    rows: Records,
    templates: Records,
    policies: Records,
) -> None:
    """Route and dispatch a chunk of requests.

    `rows` has room for the longest candidate list; `templates` and `policies` hold one request and one policy
    record per workload. The fleet must have a free sequence slot for every request of the chunk."""
    for index in range(len(requests.arrival)):
        number = requests.number[index]
        which, workload = requests.list_index[index], requests.workload[index]
        count = scene.offset[which + 1] - scene.offset[which]
        if count == 0:
            outcomes.outcome[number] = REJECTED
            outcomes.reason[number] = scene.reason[which]
            continue
        request, policy = templates[workload], policies[workload]
        _learn(fleet, scene, requests.arrival[index])
        request.output_tokens = _expected_output(scene, workload)
        request.turn = scene.turns[which]
        request.draw = requests.draw[index]
        request.session = requests.session[index]
        scene.turns[which] += 1
        if policy.algorithm == GRID:
            count, fitting, full = fill_priced_rows(rows, fleet, scene, requests, index, number, request, policy)
        else:
            count, fitting, full = fill_rows(rows, fleet, scene, requests, index, policy)
        choice = route(rows, count, request, policy)
        if choice < 0:
            outcomes.outcome[number], outcomes.reason[number] = _refusal(choice, fitting, full)
            continue
        row = rows[choice]
        place = scene.places[choice]
        outcomes.engine[number] = row.engine
        outcomes.outcome[number] = COMPLETED
        outcomes.reason[number] = NO_REASON
        if scene.wire_us[place] < 0:
            # Sent in vain: it never arrives, and the router goes on counting it as in flight.
            outcomes.rtt[number] = 0
            fleet.engines[row.engine].in_flight += 1
            continue
        wire = int(scene.wire_us[place]) * (1_000_000 + requests.jitter_ppm[index])
        rtt = wire + scene.access_us[workload] * PS_PER_US
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
            requests.leaf[index],
            requests.blocks_full[index],
            requests.prompt_tokens[index] - row.cached_tokens,
            request.output_tokens,
        )
        bit, stretch = 1 << (row.engine % MARKS), requests.leaf[index]
        while stretch != NIL and scene.sent[stretch] & bit == 0:
            scene.sent[stretch] |= bit
            stretch = int(fleet.stretch_parent[stretch])


@compiled
def replay_part(
    fleet: Fleet,
    scene: Scene,
    requests: Requests,
    outcomes: Outcomes,
    rows: Records,
    templates: Records,
    policies: Records,
    is_last: bool,
) -> None:
    """`replay_chunk`, and after the last chunk run every engine until nothing is left in it: one entry for the whole
    replay, because every entry compiles all the kernels it reaches."""
    replay_chunk(fleet, scene, requests, outcomes, rows, templates, policies)
    if is_last:
        drain(fleet)
