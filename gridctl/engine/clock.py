"""Virtual time of one engine: `advance` completes every step that ends by a given moment.

Nothing is simulated token by token. While the batch does not change, step j of a run of n decodes reads
K + n·(j + 1) KV tokens, so m steps take m·a + s·(m·(K + n) + n·m·(m − 1)/2): the run is jumped to the next thing that
changes the batch — a finish, an arrival that can be admitted, memory running out, an eviction that lets the head of
the queue in, a segment edge of the KV table — or to the last step that ends by the given moment. All integers, so
jumping equals stepping bit for bit.

A step that begins at time c includes arrivals up to and including c; under asynchronous scheduling, where the next
step is composed while one runs, those up to the beginning of the step before it (vLLM documents it as scheduling
one step ahead). An idle engine begins at once. `advance(…, until)` starts no step at or after
`until`: a later call may still bring an arrival for that very moment.
"""

from __future__ import annotations

from math import sqrt

from gridctl.engine.blocks import allocate
from gridctl.engine.queues import next_finish_step, pop_inbound, push_waiting
from gridctl.engine.scheduler import (
    advance_decodes,
    begin_step,
    blocks_for_decodes,
    can_admit,
    end_step,
    eviction_may_admit,
)
from gridctl.engine.serverless import advance_serverless
from gridctl.engine.state import GPU, NEVER, NIL, SERVERLESS, Fleet
from gridctl.kernels import compiled, fused, inner


@fused
def _affordable_steps(fleet: Fleet, engine: int, most: int, available: int) -> int:
    """How many decode steps, at most `most`, the `available` blocks allow.

    Every `block_size` steps each decode crosses into a new block exactly once."""
    host = fleet.engines[engine]
    if available >= (most // host.block_size + 1) * host.decoding:
        return most
    cycles = available // host.decoding
    steps = cycles * host.block_size
    available -= cycles * host.decoding
    phase = (-(host.decode_steps + steps)) % host.block_size
    while steps < most:
        available -= fleet.phases[engine, phase]
        if available < 0:
            break
        steps += 1
        phase = phase - 1 if phase > 0 else host.block_size - 1
    return steps


@fused
def _blocks_over(fleet: Fleet, engine: int, steps: int) -> int:
    """Blocks that `steps` decode steps take."""
    host = fleet.engines[engine]
    cycles = steps // host.block_size
    blocks = cycles * host.decoding
    phase = (-(host.decode_steps + cycles * host.block_size)) % host.block_size
    for _ in range(cycles * host.block_size, steps):
        blocks += fleet.phases[engine, phase]
        phase = phase - 1 if phase > 0 else host.block_size - 1
    return blocks


@inner
def _run_ps(steps: int, fixed: int, slope: int, first: int, decodes: int) -> int:
    """Time of `steps` decode steps: `fixed` each, and `slope` for every KV token, `first` in the first step."""
    return steps * fixed + slope * (steps * first + decodes * (steps * (steps - 1) // 2))


@inner
def _steps_within(budget: int, most: int, fixed: int, slope: int, first: int, decodes: int) -> int:
    """The largest number of steps, at most `most`, that take no longer than `budget`."""
    if _run_ps(most, fixed, slope, first, decodes) <= budget:
        return most
    curve = 0.5 * slope * decodes
    line = fixed + slope * (first - 0.5 * decodes)
    # The positive root, in the form that does not cancel; only a guess, the integers below decide.
    steps = int(2.0 * budget / (line + sqrt(line * line + 4.0 * curve * budget)))
    steps = min(max(steps, 0), most)
    while _run_ps(steps, fixed, slope, first, decodes) > budget:
        steps -= 1
    while steps < most and _run_ps(steps + 1, fixed, slope, first, decodes) <= budget:
        steps += 1
    return steps


@fused
def _jump(fleet: Fleet, engine: int, until: int, available: int) -> bool:
    """Run decodes from the engine's clock; False when the next step ends after `until`. The batch is decodes only
    and may take `available` blocks, enough for the next step."""
    host = fleet.engines[engine]
    tables, profile, decodes = fleet.profiles, host.pace, host.decoding
    first = host.kv_tokens + decodes
    segment = 0
    while tables.decode[profile, decodes, segment + 1].knot <= first:
        segment += 1
    part = tables.decode[profile, decodes, segment]
    slope = part.slope_ps
    fixed = tables.dense_ps[profile, decodes] + tables.sample_ps[profile, decodes]
    fixed += part.base_ps - slope * part.knot
    most = min(next_finish_step(fleet, engine) - host.decode_steps, host.longest_jump)
    most = min(most, (tables.decode[profile, decodes, segment + 1].knot - first + decodes - 1) // decodes)
    most = _affordable_steps(fleet, engine, most, available)
    if host.inbound > 0:
        wait = fleet.sequences[host.inbound_head].arrival - host.clock
        ahead = _steps_within(wait - 1, most, fixed, slope, first, decodes) if wait > 0 else -1
        most = min(most, ahead + 1 + host.async_scheduling)
    steps = _steps_within(until - host.clock, most, fixed, slope, first, decodes)
    duration = _run_ps(steps, fixed, slope, first, decodes)
    blocks = _blocks_over(fleet, engine, steps)
    if steps < most:
        host.quiet_until = host.clock + _run_ps(steps + 1, fixed, slope, first, decodes)
        host.calm_until = host.quiet_until
        # In `block_size` steps each decode takes one block; what is free lasts that long without an eviction.
        if ((most - steps) // host.block_size + 1) * decodes <= host.free_blocks - blocks:
            host.calm_until = host.clock + _run_ps(most, fixed, slope, first, decodes)
        if steps == 0:
            return False
    allocate(fleet, engine, blocks)
    host.horizon = host.clock + duration
    if host.async_scheduling == 1:
        host.horizon = host.clock + _run_ps(steps - 1, fixed, slope, first, decodes)
    host.clock += duration
    host.busy += duration
    host.share_tokens = decodes
    host.share_pending += duration
    advance_decodes(fleet, engine, steps)
    return steps == most


@fused
def _receive(fleet: Fleet, engine: int) -> None:
    """Queue everything that had arrived when the step that begins now was composed."""
    host = fleet.engines[engine]
    while host.inbound > 0 and fleet.sequences[host.inbound_head].arrival <= host.horizon:
        push_waiting(fleet, engine, pop_inbound(fleet, engine), False)


@fused
def _rest(fleet: Fleet, engine: int, until: int) -> None:
    """Nothing happens on the engine before `until`, unless a request is sent to it."""
    host = fleet.engines[engine]
    host.quiet_until = until
    host.calm_until = until


@compiled
def advance_batching(fleet: Fleet, engine: int, until: int) -> None:
    """Advance a continuously batching engine: complete every step that ends at or before `until`."""
    host = fleet.engines[engine]
    while True:
        if host.step_end > 0:
            if host.step_end > until:
                _rest(fleet, engine, host.step_end)
                return
            end_step(fleet, engine)
            continue
        if host.running == 0 and host.waiting == 0:
            if host.inbound == 0:
                _rest(fleet, engine, int(NEVER))
                return
            # An idle clock stays put until the arrival is certain to be the first: an earlier one may yet be sent.
            start = max(host.clock, fleet.sequences[host.inbound_head].arrival)
            if start >= until:
                _rest(fleet, engine, start + 1)
                return
            host.clock = host.horizon = start
        if host.clock >= until:
            _rest(fleet, engine, host.clock + 1)
            return
        _receive(fleet, engine)
        available = 0
        if host.prefilling == NIL and host.decoding > 0 and not can_admit(fleet, engine):
            available = host.free_blocks
            if not eviction_may_admit(fleet, engine):
                available += host.cached_blocks
            decodes_only = blocks_for_decodes(fleet, engine) <= available
        else:
            decodes_only = False
        if not decodes_only:
            begin_step(fleet, engine)
        elif not _jump(fleet, engine, until, available):
            return


@fused
def advance(fleet: Fleet, engine: int, until: int) -> None:
    """Complete everything the engine completes at or before `until`. Most looks find it amid a step: they cost a
    comparison, because the last advance noted until when nothing can happen."""
    host = fleet.engines[engine]
    if until >= host.quiet_until:
        if host.kind == GPU:
            advance_batching(fleet, engine, until)
        elif host.kind == SERVERLESS:
            advance_serverless(fleet, engine, until)


@fused
def _scrape(fleet: Fleet, engine: int, when: int) -> None:
    """Keep what the engine's metrics endpoint would say at `when`, and what it said the time before."""
    host = fleet.engines[engine]
    host.older_time = host.scrape_time
    host.older_running = host.scrape_running
    host.older_waiting = host.scrape_waiting
    host.older_pending_tokens = host.scrape_pending_tokens
    host.older_kv_blocks = host.scrape_kv_blocks
    host.scrape_time = when
    host.scrape_running = host.running
    host.scrape_waiting = host.waiting
    host.scrape_pending_tokens = host.pending_tokens
    host.scrape_kv_blocks = host.blocks_total - host.free_blocks - host.cached_blocks


@compiled
def catch_up(fleet: Fleet, engine: int, now: int, period: int) -> None:
    """Advance to `now`, stopping at the scrapes in between. Only the last two can still be seen, so a long silence
    costs two stops, not one per period."""
    host = fleet.engines[engine]
    if host.next_scrape <= now:
        behind = (now - host.next_scrape) // period
        if behind > 1:
            host.next_scrape += (behind - 1) * period
        while host.next_scrape <= now:
            advance(fleet, engine, host.next_scrape)
            _scrape(fleet, engine, host.next_scrape)
            host.next_scrape += period
    advance(fleet, engine, now)


@fused
def observe(fleet: Fleet, engine: int, now: int, period: int) -> None:
    """Bring what a router sees of the engine to `now`. Most looks find nothing changed and cost two comparisons: the
    engine noted until when its decodes run on, and no scrape is due."""
    host = fleet.engines[engine]
    if now >= host.calm_until or now >= host.next_scrape:
        catch_up(fleet, engine, now, period)


@compiled
def drain(fleet: Fleet) -> None:
    """Run every engine until nothing is left in it."""
    for engine in range(len(fleet.engines)):
        advance(fleet, engine, int(NEVER))
