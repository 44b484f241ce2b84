"""Steps: the twin's kernels as a live engine calls them. Serve to a moment, admit, abort.

The fleet holds one engine, number 0, and a request's number is its sequence slot, so results are reused like slots.
`watched` lists the slots in flight, `told` holds how many tokens of each have been announced. The twin itself knows no
client that leaves: `abort` undoes what a sequence holds, between two steps only, as vLLM frees an aborted request when
it composes the next step.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gridctl.engine.blocks import release
from gridctl.engine.clock import advance
from gridctl.engine.fleet import dispatch
from gridctl.engine.queues import remove_finishing, remove_inbound, remove_running, remove_waiting
from gridctl.engine.scheduler import begin_step, length_of, settle_shares
from gridctl.engine.state import NIL, Fleet
from gridctl.kernels import compiled, fused

Ints = NDArray[np.int64]

WATCHED, QUIET_UNTIL = range(2)
"""`facts`: how many slots are watched, and until when nothing happens in the engine."""


@fused
def _made(fleet: Fleet, slot: int) -> int:
    """Tokens a request in flight, or just finished, has been given."""
    sequence = fleet.sequences[slot]
    if fleet.results[slot].last_token >= 0:
        return int(sequence.output_tokens)
    if sequence.finish_step > 0:
        return int(sequence.output_tokens - (sequence.finish_step - fleet.engines[0].decode_steps))
    return int(sequence.generated)


@compiled
def serve(fleet: Fleet, until: int, facts: Ints, watched: Ints, told: Ints, news: Ints) -> int:
    """Complete every step that ends at or before `until`; writes the slots that got tokens into `news` and returns how
    many they are. Slots that finished are watched no longer."""
    advance(fleet, 0, until)
    count = facts[WATCHED]
    found = 0
    place = 0
    while place < count:
        slot = watched[place]
        made = _made(fleet, slot)
        if made > told[slot]:
            told[slot] = made
            news[found] = slot
            found += 1
        if fleet.results[slot].last_token >= 0:
            count -= 1
            watched[place] = watched[count]
        else:
            place += 1
    facts[WATCHED] = count
    facts[QUIET_UNTIL] = fleet.engines[0].quiet_until
    return found


@compiled
def admit(
    fleet: Fleet,
    arrival: int,
    prompt_tokens: int,
    output_tokens: int,
    priority: int,
    leaf: int,
    blocks_full: int,
    facts: Ints,
    watched: Ints,
    told: Ints,
) -> int:
    """Send a request to the engine; returns its slot. The caller has seen to it that one is free."""
    slot = int(fleet.free_sequences[fleet.free_sequences[0]])
    dispatch(fleet, 0, slot, 0, priority, arrival, prompt_tokens, output_tokens, leaf, blocks_full, prompt_tokens, 0)
    fleet.results[slot].last_token = NIL
    fleet.results[slot].cached_tokens = 0
    told[slot] = 0
    watched[facts[WATCHED]] = slot
    facts[WATCHED] += 1
    facts[QUIET_UNTIL] = fleet.engines[0].quiet_until
    return slot


@fused
def _is_on(fleet: Fleet, head: int, slot: int) -> bool:
    """Whether the list that begins at `head` has the slot."""
    while head != NIL and head != slot:
        head = fleet.sequences[head].next
    return head == slot


@fused
def _leave_batch(fleet: Fleet, slot: int) -> None:
    """Take a running sequence from the batch and free what it holds."""
    host = fleet.engines[0]
    sequence = fleet.sequences[slot]
    settle_shares(fleet, 0)
    length = length_of(fleet, 0, slot)
    release(fleet, 0, slot, length)
    if sequence.finish_step > 0:
        remove_finishing(fleet, 0, host.decoding, slot)
        fleet.phases[0, sequence.phase] -= 1
        host.decoding -= 1
        host.kv_tokens -= length
        sequence.finish_step = 0
    else:
        host.prefilling = NIL
    remove_running(fleet, 0, slot)


@compiled
def abort(fleet: Fleet, slot: int, now: int, facts: Ints, watched: Ints) -> bool:
    """Take a request that has not finished out of the engine, which has been served to `now`. False while it is part
    of a step in flight: ask again when that ends, at `facts[QUIET_UNTIL]`."""
    host = fleet.engines[0]
    sequence = fleet.sequences[slot]
    if _is_on(fleet, host.running_head, slot):
        if host.step_end == 0 and host.clock < now:
            # Decodes run on: the step in flight now ends as it was planned.
            begin_step(fleet, 0)
            host.quiet_until = host.calm_until = host.step_end
            facts[QUIET_UNTIL] = host.quiet_until
        if host.step_end > 0:
            return False
        _leave_batch(fleet, slot)
    elif _is_on(fleet, host.waiting_head, slot):
        remove_waiting(fleet, 0, slot)
    else:
        remove_inbound(fleet, 0, slot)
    if sequence.first_token < 0:
        host.pending_tokens -= sequence.announced_tokens
    host.in_flight -= 1
    host.announced_kv -= sequence.announced_kv
    host.quiet_until = host.calm_until = host.clock
    facts[QUIET_UNTIL] = host.quiet_until
    height = fleet.free_sequences[0] + 1
    fleet.free_sequences[height] = slot
    fleet.free_sequences[0] = height
    count = facts[WATCHED]
    for place in range(count):
        if watched[place] == slot:
            watched[place] = watched[count - 1]
            facts[WATCHED] = count - 1
            break
    return True
