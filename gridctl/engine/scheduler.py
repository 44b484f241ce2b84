"""One step of a continuously batching engine: who runs, what is allocated, who is preempted, what it took.

Modelled on the scheduler vLLM V1 documents: decodes first, one token each; then the prefill in progress; then waiting
requests while the token budget, the sequence limit and KV memory allow (chunked prefill mixed with decodes). Blocks
are taken on demand. When a running sequence finds none, the last admitted (or least urgent) one is preempted, loses
its KV and is recomputed later, prompt and generated tokens; a step that preempted admits nobody. At most one prefill
is partial at any time, and it is the last of the batch, because only an exhausted budget leaves a prefill partial.
"""

from __future__ import annotations

from gridctl.engine.blocks import allocate, blocks_for, fits, match_of, publish, release, reserve
from gridctl.engine.queues import (
    next_finish_step,
    pop_finished,
    pop_waiting,
    push_finishing,
    push_running,
    push_waiting,
    remove_finishing,
    remove_running,
)
from gridctl.engine.state import NIL, Fleet
from gridctl.engine.steptime import chunk_ps, kv_read_ps, mixed_ps
from gridctl.kernels import fused, inner


@fused
def blocks_for_decodes(fleet: Fleet, engine: int) -> int:
    """Blocks the next decode step needs: one for each sequence whose last block is full.

    All decodes advance together, so (length − steps) mod block_size never changes while a sequence decodes; counting
    sequences by that phase answers the question without visiting them."""
    host = fleet.engines[engine]
    return fleet.phases[engine, (-host.decode_steps) % host.block_size]


@fused
def settle_shares(fleet: Fleet, engine: int) -> None:
    """Spread the step time gathered since the batch last changed over its tokens; the remainder is carried."""
    host = fleet.engines[engine]
    if host.share_tokens > 0:
        each = host.share_pending // host.share_tokens
        host.share_total += each
        host.share_pending -= each * host.share_tokens


@inner
def length_of(fleet: Fleet, engine: int, slot: int) -> int:
    """KV tokens a running sequence holds, or is about to: a decode's from its finish step, a prefill's as computed."""
    sequence = fleet.sequences[slot]
    if sequence.finish_step > 0:
        left = sequence.finish_step - fleet.engines[engine].decode_steps
        return sequence.target + (sequence.output_tokens - sequence.generated) - left
    return sequence.computed


@fused
def _preempt(fleet: Fleet, engine: int, slot: int) -> None:
    """Take everything from a running sequence and put it back in the queue to be recomputed."""
    host = fleet.engines[engine]
    sequence = fleet.sequences[slot]
    length = length_of(fleet, engine, slot)
    release(fleet, engine, slot, length)
    if sequence.finish_step > 0:
        remove_finishing(fleet, engine, host.decoding, slot)
        produced = length - sequence.target
        sequence.generated += produced
        sequence.target += produced + 1
        sequence.share += host.share_total - sequence.share_start
        fleet.phases[engine, sequence.phase] -= 1
        host.decoding -= 1
        host.kv_tokens -= length
        sequence.finish_step = 0
    else:
        host.prefilling = NIL
    sequence.computed = 0
    sequence.preemptions += 1
    host.preempted += 1
    remove_running(fleet, engine, slot)
    push_waiting(fleet, engine, slot, True)


@fused
def _victim(fleet: Fleet, engine: int) -> int:
    """Who is preempted: the last admitted, or the least urgent under priority scheduling."""
    host = fleet.engines[engine]
    worst = host.running_tail
    if host.priority_scheduling == 1:
        slot = fleet.sequences[worst].previous
        while slot != NIL:
            a, b = fleet.sequences[slot], fleet.sequences[worst]
            if a.priority > b.priority or (a.priority == b.priority and a.arrival > b.arrival):
                worst = slot
            slot = fleet.sequences[slot].previous
    return worst


@fused
def can_admit(fleet: Fleet, engine: int) -> bool:
    """Whether the head of the queue could join the next step, were there token budget. Changes nothing."""
    host = fleet.engines[engine]
    if host.waiting == 0 or host.running >= host.max_num_seqs:
        return False
    sequence = fleet.sequences[host.waiting_head]
    if host.max_num_batched_tokens <= host.decoding:
        return False
    matched = match_of(fleet, engine, host.waiting_head)
    cached = matched * fleet.node_tokens
    chunk = min(sequence.target - cached, host.max_num_batched_tokens - host.decoding)
    return fits(fleet, engine, host.waiting_head, matched, cached + chunk, blocks_for_decodes(fleet, engine))


@fused
def eviction_may_admit(fleet: Fleet, engine: int) -> bool:
    """Whether the head of the queue, kept out by memory, may ask for less of it once decodes evict its cached prefix:
    a chunk cut by the token budget ends earlier when fewer of the tokens before it are found."""
    host = fleet.engines[engine]
    budget = host.max_num_batched_tokens - host.decoding
    if host.waiting == 0 or host.running >= host.max_num_seqs or budget <= 0:
        return False
    sequence = fleet.sequences[host.waiting_head]
    if sequence.target <= budget:
        return False
    return match_of(fleet, engine, host.waiting_head) > 0


@fused
def _admit(fleet: Fleet, engine: int, budget: int) -> int:
    """Let the head of the queue join with at most `budget` tokens; returns its chunk, 0 when memory forbids it."""
    host = fleet.engines[engine]
    slot = host.waiting_head
    sequence = fleet.sequences[slot]
    matched = match_of(fleet, engine, slot)
    cached = matched * fleet.node_tokens
    chunk = min(sequence.target - cached, budget)
    if not reserve(fleet, engine, slot, matched, cached + chunk):
        return 0
    pop_waiting(fleet, engine)
    push_running(fleet, engine, slot)
    sequence.computed = cached
    sequence.chunk = chunk
    if sequence.scheduled < 0:
        sequence.scheduled = host.clock
        sequence.cached_tokens = cached
    publish(fleet, engine, slot, cached + chunk)
    return chunk


@fused
def _next_chunk(fleet: Fleet, engine: int) -> int:
    """What the decodes leave of the token budget for the partial prefill; 0 when there is none."""
    host = fleet.engines[engine]
    if host.prefilling == NIL:
        return 0
    sequence = fleet.sequences[host.prefilling]
    return min(sequence.target - sequence.computed, host.max_num_batched_tokens - host.decoding)


@fused
def _blocks_for_batch(fleet: Fleet, engine: int) -> int:
    """Blocks the running sequences need for their next step: the decodes' and the partial prefill's."""
    blocks = blocks_for_decodes(fleet, engine)
    chunk = _next_chunk(fleet, engine)
    if chunk > 0:
        host = fleet.engines[engine]
        computed = fleet.sequences[host.prefilling].computed
        blocks += blocks_for(computed + chunk, host.block_size) - blocks_for(computed, host.block_size)
    return blocks


@fused
def _pairs(computed: int, chunk: int) -> int:
    """Token pairs a causal prefill of `chunk` tokens after `computed` attends."""
    return chunk * computed + chunk * (chunk + 1) // 2


@fused
def begin_step(fleet: Fleet, engine: int) -> None:
    """Compose the batch at the engine's clock and set when its step ends; no step when nothing can run."""
    host = fleet.engines[engine]
    settle_shares(fleet, engine)
    preempted = host.preempted
    while _blocks_for_batch(fleet, engine) > host.free_blocks + host.cached_blocks:
        _preempt(fleet, engine, _victim(fleet, engine))
    allocate(fleet, engine, _blocks_for_batch(fleet, engine))
    decodes = host.decoding
    budget = host.max_num_batched_tokens - decodes
    tokens, samples, pairs = decodes, decodes, 0
    chunk = _next_chunk(fleet, engine)
    if chunk > 0:
        sequence = fleet.sequences[host.prefilling]
        sequence.chunk = chunk
        publish(fleet, engine, host.prefilling, sequence.computed + chunk)
        budget -= chunk
        tokens += chunk
        pairs += _pairs(sequence.computed, chunk)
        samples += 1 if sequence.computed + chunk == sequence.target else 0
    while budget > 0 and host.preempted == preempted and host.waiting > 0 and host.running < host.max_num_seqs:
        slot = host.waiting_head
        chunk = _admit(fleet, engine, budget)
        if chunk == 0:
            break
        sequence = fleet.sequences[slot]
        budget -= chunk
        tokens += chunk
        pairs += _pairs(sequence.computed, chunk)
        samples += 1 if sequence.computed + chunk == sequence.target else 0
    if tokens == 0:
        return
    tables, profile = fleet.profiles, host.pace
    duration = tables.dense_ps[profile, tokens] + tables.sample_ps[profile, samples]
    if tokens > decodes:
        duration += chunk_ps(tables, profile, tokens - decodes, pairs)
        if decodes > 0:
            duration += mixed_ps(tables, profile, decodes, host.kv_tokens + decodes, tokens - decodes)
    else:
        duration += kv_read_ps(tables, profile, decodes, host.kv_tokens + decodes)
    host.step_tokens = tokens
    host.step_end = host.clock + duration


@inner
def finish_sequence(fleet: Fleet, engine: int, slot: int, held_tokens: int) -> None:
    """The last token is out: give memory back, write the results, teach the router."""
    host = fleet.engines[engine]
    release(fleet, engine, slot, held_tokens)
    remove_running(fleet, engine, slot)
    record_finish(fleet, engine, slot, host.clock)


@inner
def record_finish(fleet: Fleet, engine: int, slot: int, when: int) -> None:
    """Write a finished sequence's results and free its slot."""
    sequence = fleet.sequences[slot]
    result = fleet.results[sequence.request]
    result.scheduled = sequence.scheduled
    result.first_token = sequence.first_token
    result.last_token = when
    result.cached_tokens = sequence.cached_tokens
    result.preemptions = sequence.preemptions
    result.share = sequence.share
    lesson = fleet.learned[sequence.workload]
    lesson.finished += 1
    lesson.output_tokens += sequence.output_tokens
    host = fleet.engines[engine]
    host.in_flight -= 1
    host.announced_kv -= sequence.announced_kv
    height = fleet.free_sequences[0] + 1
    fleet.free_sequences[height] = slot
    fleet.free_sequences[0] = height


@inner
def advance_decodes(fleet: Fleet, engine: int, steps: int) -> None:
    """Let every decode produce `steps` tokens; those that are done leave. Blocks were taken by the caller."""
    host = fleet.engines[engine]
    host.decode_steps += steps
    host.kv_tokens += steps * host.decoding
    if next_finish_step(fleet, engine) > host.decode_steps:
        return
    settle_shares(fleet, engine)
    finished = pop_finished(fleet, engine, host.decoding, host.decode_steps)
    host.decoding -= finished
    for place in range(host.decoding, host.decoding + finished):
        slot = fleet.finishing[engine, place]
        sequence = fleet.sequences[slot]
        length = length_of(fleet, engine, slot)
        host.kv_tokens -= length
        fleet.phases[engine, sequence.phase] -= 1
        sequence.share += host.share_total - sequence.share_start
        finish_sequence(fleet, engine, slot, length)


@fused
def _emit_first_token(fleet: Fleet, engine: int, slot: int) -> None:
    """A prefill is complete: its step sampled one token. The sequence decodes on, or was asked for one token only."""
    host = fleet.engines[engine]
    sequence = fleet.sequences[slot]
    sequence.generated += 1
    if sequence.first_token < 0:
        sequence.first_token = host.clock
        host.pending_tokens -= sequence.announced_tokens
    if sequence.generated == sequence.output_tokens:
        finish_sequence(fleet, engine, slot, sequence.target)
        return
    sequence.finish_step = host.decode_steps + sequence.output_tokens - sequence.generated
    sequence.phase = (sequence.target - host.decode_steps) % host.block_size
    sequence.share_start = host.share_total
    fleet.phases[engine, sequence.phase] += 1
    host.kv_tokens += sequence.target
    push_finishing(fleet, engine, host.decoding, slot)
    host.decoding += 1


@fused
def end_step(fleet: Fleet, engine: int) -> None:
    """The mixed step in flight is done: decodes got a token, prefills their chunk."""
    host = fleet.engines[engine]
    duration = host.step_end - host.clock
    host.horizon = host.clock if host.async_scheduling == 1 else host.step_end
    host.clock = host.step_end
    host.step_end = 0
    host.busy += duration
    host.share_tokens = host.step_tokens
    host.share_pending += duration
    before = host.share_total
    settle_shares(fleet, engine)
    each = host.share_total - before
    # Prefills of this step are the tail of the batch; the walk below meets them before any decode finishes.
    first = NIL
    slot = host.running_tail
    while slot != NIL and fleet.sequences[slot].chunk > 0:
        first = slot
        slot = fleet.sequences[slot].previous
    if host.decoding > 0:
        advance_decodes(fleet, engine, 1)
    host.prefilling = NIL
    slot = first
    while slot != NIL:
        following = fleet.sequences[slot].next
        sequence = fleet.sequences[slot]
        sequence.share += sequence.chunk * each
        sequence.computed += sequence.chunk
        sequence.chunk = 0
        if sequence.computed == sequence.target:
            _emit_first_token(fleet, engine, slot)
        else:
            host.prefilling = slot
        slot = following
