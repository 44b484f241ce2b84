"""Function instances on a site's CPUs: one request each, first come first served, cold unless recently used.

A request takes the most recently idle warm instance, so the others may expire; without one, and below the
concurrency limit, a new instance starts cold; otherwise it waits for the first that becomes free. Prefill runs in
chunks of the profile's table width, decode one token a step.
"""

from __future__ import annotations

from gridctl.engine.queues import (
    SLOT_BITS,
    pop_finishing,
    pop_inbound,
    pop_waiting,
    push_finishing,
    push_running,
    push_waiting,
    remove_running,
)
from gridctl.engine.scheduler import record_finish
from gridctl.engine.state import NEVER, NIL, Fleet
from gridctl.engine.steptime import decode_ps, prefill_ps
from gridctl.kernels import compiled, fused

TICK = 10_000_000
"""Finish times are kept in the heap in units of 10 µs, rounded up: 37 bits of them are 15 days."""


@fused
def _start(fleet: Fleet, engine: int, now: int) -> None:
    """Run the head of the queue on an instance."""
    host = fleet.engines[engine]
    slot = pop_waiting(fleet, engine)
    sequence = fleet.sequences[slot]
    begin = now
    if host.idle_instances > 0 and now - fleet.idle_since[engine, host.idle_instances - 1] <= host.keep_warm:
        host.idle_instances -= 1
    else:
        host.idle_instances = 0
        begin += host.cold_start
    sequence.scheduled = now
    width = host.max_num_batched_tokens
    sequence.first_token = begin + prefill_ps(fleet.profiles, host.pace, width, sequence.prompt_tokens)
    steps = sequence.output_tokens - 1
    finish = sequence.first_token + decode_ps(fleet.profiles, host.pace, sequence.prompt_tokens, steps)
    sequence.share = finish - now
    host.busy += finish - now
    sequence.target = finish
    sequence.finish_step = (finish + TICK - 1) // TICK
    push_running(fleet, engine, slot)
    push_finishing(fleet, engine, host.decoding, slot)
    host.decoding += 1
    host.pending_tokens -= sequence.announced_tokens


@fused
def _finish(fleet: Fleet, engine: int) -> None:
    host = fleet.engines[engine]
    slot = pop_finishing(fleet, engine, host.decoding)
    host.decoding -= 1
    remove_running(fleet, engine, slot)
    host.clock = fleet.sequences[slot].finish_step * TICK
    fleet.idle_since[engine, host.idle_instances] = host.clock
    host.idle_instances += 1
    record_finish(fleet, engine, slot, fleet.sequences[slot].target)


@compiled
def advance_serverless(fleet: Fleet, engine: int, until: int) -> None:
    """Advance the site's instances: every arrival before `until` is queued or started, every finish by it is done.

    An instance is free again at the first tick after it finishes; a finish goes before an arrival of the same time.
    """
    host = fleet.engines[engine]
    while True:
        finish = NIL
        if host.decoding > 0:
            finish = (fleet.finishing[engine, 0] >> SLOT_BITS) * TICK
        arrival = NIL
        if host.inbound > 0:
            arrival = fleet.sequences[host.inbound_head].arrival
        if finish != NIL and (arrival == NIL or finish <= arrival):
            if finish > until:
                host.quiet_until = host.calm_until = finish
                return
            _finish(fleet, engine)
            if host.waiting > 0:
                _start(fleet, engine, host.clock)
        elif arrival != NIL:
            if arrival >= until:
                host.quiet_until = host.calm_until = arrival + 1
                return
            slot = pop_inbound(fleet, engine)
            push_waiting(fleet, engine, slot, False)
            host.clock = arrival
            if host.decoding < host.max_num_seqs:
                _start(fleet, engine, arrival)
        else:
            host.quiet_until = host.calm_until = NEVER
            return
