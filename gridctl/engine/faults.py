"""What a fault does to an engine, compiled: it is lost with all it holds, comes back empty, slows down, loses seats.

Every change first brings its engine to the moment it happens, so it is the same whoever looked at the engine before. A
step in flight when the pace or the seats change ends as it was planned. What a lost engine held, and what is sent to it
until somebody notices, stays on its wire: nothing of it is computed, and the router goes on counting it as in flight.
Invariant: every request of a lost engine is collected exactly once.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gridctl.engine.blocks import forget, release
from gridctl.engine.clock import catch_up
from gridctl.engine.queues import pop_inbound, pop_waiting, push_inbound, remove_running
from gridctl.engine.scheduler import begin_step, length_of, settle_shares
from gridctl.engine.state import GPU, NEVER, NIL, SERVERLESS, Fleet
from gridctl.engine.steptime import decode_ps
from gridctl.kernels import compiled, fused

LOSE, COLLECT, RESTORE, PACE, SEATS, STALE, MISSING, SCRAPED, CAUGHT_UP = range(9)
"""What can be done to engines. COLLECT takes from lost ones what they held; PACE and SEATS set a value; STALE ends
scrapes, MISSING forgets what they said, too, and SCRAPED begins them again; CAUGHT_UP does nothing else."""

BEGUN, TOKENS, TIME = range(3)
"""`tally`: lost requests whose first token was out, KV tokens they held, and engine time they had had, times GPUs."""


@fused
def _planned(fleet: Fleet, engine: int, now: int) -> None:
    """Compose the step in flight at `now`, if decodes run on, so that it ends as planned whatever changes now."""
    host = fleet.engines[engine]
    if host.kind == GPU and host.step_end == 0 and host.clock < now and host.running > 0:
        begin_step(fleet, engine)


@fused
def _lose_running(fleet: Fleet, engine: int, slot: int, now: int, tally: NDArray[np.int64]) -> None:
    """Take a running sequence from a lost engine and put it on the wire; `tally` is told what was lost with it."""
    host = fleet.engines[engine]
    sequence = fleet.sequences[slot]
    if host.kind == SERVERLESS:
        # An instance is billed until it dies; tokens come at the pace they were planned at.
        host.busy -= max(0, sequence.target - now)
        tally[TIME] += min(now, sequence.target) - sequence.scheduled
        if sequence.first_token <= now:
            one = max(1, decode_ps(fleet.profiles, host.pace, sequence.prompt_tokens, 1))
            made = 1 + (now - sequence.first_token) // one
            tally[BEGUN] += 1
            tally[TOKENS] += sequence.prompt_tokens + min(sequence.output_tokens, made)
    else:
        length = length_of(fleet, engine, slot)
        share = sequence.share
        if sequence.finish_step > 0:
            share += host.share_total - sequence.share_start
        tally[TOKENS] += length
        tally[TIME] += share * host.gpus
        tally[BEGUN] += 1 if sequence.first_token >= 0 else 0
        release(fleet, engine, slot, length)
    remove_running(fleet, engine, slot)
    push_inbound(fleet, engine, slot)


@fused
def _lose(fleet: Fleet, engine: int, now: int, tally: NDArray[np.int64]) -> None:
    """Stop the engine, amid its step, and empty it."""
    host = fleet.engines[engine]
    settle_shares(fleet, engine)
    while host.running > 0:
        _lose_running(fleet, engine, host.running_head, now, tally)
    while host.waiting > 0:
        slot = pop_waiting(fleet, engine)
        sequence = fleet.sequences[slot]
        tally[BEGUN] += 1 if sequence.first_token >= 0 else 0
        tally[TIME] += sequence.share * max(1, host.gpus)
        push_inbound(fleet, engine, slot)
    if host.kind == GPU:
        forget(fleet, engine)
    host.is_lost = 1
    host.step_end = host.step_tokens = 0
    host.decoding = host.kv_tokens = host.idle_instances = 0
    host.prefilling = NIL
    for phase in range(host.block_size):
        fleet.phases[engine, phase] = 0
    host.quiet_until = host.calm_until = host.next_scrape = NEVER


@fused
def _collect(fleet: Fleet, engine: int, requests: NDArray[np.int64], count: int) -> int:
    """Write the numbers of the requests on a lost engine's wire behind the first `count`, and forget them there."""
    host = fleet.engines[engine]
    while host.inbound > 0:
        slot = pop_inbound(fleet, engine)
        requests[count] = fleet.sequences[slot].request
        count += 1
        height = fleet.free_sequences[0] + 1
        fleet.free_sequences[height] = slot
        fleet.free_sequences[0] = height
    host.in_flight = 0
    host.pending_tokens = 0
    host.announced_kv = 0
    return count


@fused
def _forget_scrapes(fleet: Fleet, engine: int, when: int) -> None:
    """What the engine said last is that it is empty, at `when`; NIL: it never said anything."""
    host = fleet.engines[engine]
    host.scrape_time = host.older_time = when
    host.scrape_running = host.older_running = 0
    host.scrape_waiting = host.older_waiting = 0
    host.scrape_pending_tokens = host.older_pending_tokens = 0
    host.scrape_kv_blocks = host.older_kv_blocks = 0


@fused
def _scrape_on(fleet: Fleet, engine: int, now: int, period: int) -> None:
    """The next scrape is when it would have been, had there never been a pause."""
    host = fleet.engines[engine]
    host.next_scrape = now - now % period + period * engine // len(fleet.engines)
    if host.next_scrape <= now:
        host.next_scrape += period


@fused
def _restore(fleet: Fleet, engine: int, now: int, period: int) -> None:
    """The engine is back, idle and cold, and said so when it reported back; scrapes fall as they did before."""
    host = fleet.engines[engine]
    host.is_lost = 0
    host.clock = host.horizon = now
    host.quiet_until = host.calm_until = NEVER
    _forget_scrapes(fleet, engine, now)
    _scrape_on(fleet, engine, now, period)


@compiled
def change_engines(
    fleet: Fleet,
    engines: NDArray[np.int64],
    change: int,
    values: NDArray[np.int64],
    now: int,
    period: int,
    requests: NDArray[np.int64],
    tally: NDArray[np.int64],
) -> int:
    """Do `change` to each of `engines` at `now`; returns how many requests were collected into `requests`.

    `values` holds, per engine, the profile of PACE or the batch seats of SEATS; `tally` is added to by LOSE."""
    count = 0
    for place in range(len(engines)):
        engine = engines[place]
        host = fleet.engines[engine]
        if change == COLLECT:
            count = _collect(fleet, engine, requests, count)
            continue
        if change == RESTORE:
            _restore(fleet, engine, now, period)
            continue
        catch_up(fleet, engine, now, period)
        if change == LOSE:
            _lose(fleet, engine, now, tally)
        elif change in (STALE, MISSING):
            host.next_scrape = NEVER
            if change == MISSING:
                _forget_scrapes(fleet, engine, NIL)
        elif change == SCRAPED:
            _scrape_on(fleet, engine, now, period)
        if change != PACE and change != SEATS:
            continue
        _planned(fleet, engine, now)
        if change == PACE:
            host.pace = values[place]
        else:
            host.max_num_seqs = values[place]
        # What was noted of the time ahead was so at the old pace.
        host.quiet_until = host.calm_until = now
    return count
