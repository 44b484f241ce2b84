"""The four lists a sequence can be on: inbound (on the wire), waiting, running, finishing.

inbound is sorted by arrival at the engine; waiting is first come first served, or by (priority, arrival) when the
engine schedules by priority; running is in order of admission; finishing is a binary heap of the decode step at which
a running sequence produces its last token.
"""

from __future__ import annotations

from gridctl.engine.state import NIL, Fleet
from gridctl.kernels import fused, inner

SLOT_BITS = 26
"""Slots fit in 26 bits (67 million requests in flight), which leaves 37 for the step or tick."""


@inner
def push_inbound(fleet: Fleet, engine: int, slot: int) -> None:
    """Insert by arrival, after equal arrivals; the search starts at the tail because arrivals are almost sorted."""
    host = fleet.engines[engine]
    sequence = fleet.sequences[slot]
    before = host.inbound_tail
    while before != NIL and fleet.sequences[before].arrival > sequence.arrival:
        before = fleet.sequences[before].previous
    sequence.previous = before
    if before == NIL:
        sequence.next = host.inbound_head
        host.inbound_head = slot
    else:
        sequence.next = fleet.sequences[before].next
        fleet.sequences[before].next = slot
    if sequence.next == NIL:
        host.inbound_tail = slot
    else:
        fleet.sequences[sequence.next].previous = slot
    host.inbound += 1


@inner
def pop_inbound(fleet: Fleet, engine: int) -> int:
    """The earliest arrival."""
    host = fleet.engines[engine]
    slot = host.inbound_head
    host.inbound_head = fleet.sequences[slot].next
    if host.inbound_head == NIL:
        host.inbound_tail = NIL
    else:
        fleet.sequences[host.inbound_head].previous = NIL
    host.inbound -= 1
    return slot


@inner
def remove_inbound(fleet: Fleet, engine: int, slot: int) -> None:
    """Take a sequence off the wire, wherever it is in the list."""
    host = fleet.engines[engine]
    sequence = fleet.sequences[slot]
    if sequence.previous == NIL:
        host.inbound_head = sequence.next
    else:
        fleet.sequences[sequence.previous].next = sequence.next
    if sequence.next == NIL:
        host.inbound_tail = sequence.previous
    else:
        fleet.sequences[sequence.next].previous = sequence.previous
    host.inbound -= 1


@fused
def _goes_after(fleet: Fleet, other: int, slot: int) -> bool:
    """Whether `slot` waits behind `other` under priority scheduling: a smaller number is served first."""
    a, b = fleet.sequences[other], fleet.sequences[slot]
    if a.priority != b.priority:
        return a.priority < b.priority
    if a.arrival != b.arrival:
        return a.arrival < b.arrival
    return a.request < b.request


@inner
def push_waiting(fleet: Fleet, engine: int, slot: int, to_front: bool) -> None:
    """Queue a sequence: at the end, at the front (a preempted one), or by priority when the engine does so."""
    host = fleet.engines[engine]
    sequence = fleet.sequences[slot]
    before = host.waiting_tail
    if host.priority_scheduling == 1:
        while before != NIL and not _goes_after(fleet, before, slot):
            before = fleet.sequences[before].previous
    elif to_front:
        before = NIL
    sequence.previous = before
    if before == NIL:
        sequence.next = host.waiting_head
        host.waiting_head = slot
    else:
        sequence.next = fleet.sequences[before].next
        fleet.sequences[before].next = slot
    if sequence.next == NIL:
        host.waiting_tail = slot
    else:
        fleet.sequences[sequence.next].previous = slot
    host.waiting += 1


@inner
def pop_waiting(fleet: Fleet, engine: int) -> int:
    """The head of the queue."""
    host = fleet.engines[engine]
    slot = host.waiting_head
    host.waiting_head = fleet.sequences[slot].next
    if host.waiting_head == NIL:
        host.waiting_tail = NIL
    else:
        fleet.sequences[host.waiting_head].previous = NIL
    host.waiting -= 1
    return slot


@inner
def remove_waiting(fleet: Fleet, engine: int, slot: int) -> None:
    """Take a sequence out of the queue, wherever it is in it."""
    host = fleet.engines[engine]
    sequence = fleet.sequences[slot]
    if sequence.previous == NIL:
        host.waiting_head = sequence.next
    else:
        fleet.sequences[sequence.previous].next = sequence.next
    if sequence.next == NIL:
        host.waiting_tail = sequence.previous
    else:
        fleet.sequences[sequence.next].previous = sequence.previous
    host.waiting -= 1


@inner
def push_running(fleet: Fleet, engine: int, slot: int) -> None:
    """Admit at the end of the batch."""
    host = fleet.engines[engine]
    sequence = fleet.sequences[slot]
    sequence.previous = host.running_tail
    sequence.next = NIL
    if host.running_tail == NIL:
        host.running_head = slot
    else:
        fleet.sequences[host.running_tail].next = slot
    host.running_tail = slot
    host.running += 1
    host.admissions += 1
    sequence.admission = host.admissions


@inner
def remove_running(fleet: Fleet, engine: int, slot: int) -> None:
    """Take a sequence out of the batch."""
    host = fleet.engines[engine]
    sequence = fleet.sequences[slot]
    if sequence.previous == NIL:
        host.running_head = sequence.next
    else:
        fleet.sequences[sequence.previous].next = sequence.next
    if sequence.next == NIL:
        host.running_tail = sequence.previous
    else:
        fleet.sequences[sequence.next].previous = sequence.previous
    host.running -= 1


@inner
def push_finishing(fleet: Fleet, engine: int, count: int, slot: int) -> None:
    """Add a sequence to the heap of `count` entries."""
    heap = fleet.finishing[engine]
    key = (fleet.sequences[slot].finish_step << SLOT_BITS) | slot
    at = count
    while at > 0 and heap[(at - 1) >> 1] > key:
        heap[at] = heap[(at - 1) >> 1]
        at = (at - 1) >> 1
    heap[at] = key


@inner
def _sift_down(fleet: Fleet, engine: int, count: int, at: int) -> None:
    heap = fleet.finishing[engine]
    key = heap[at]
    while True:
        child = 2 * at + 1
        if child >= count:
            break
        if child + 1 < count and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= key:
            break
        heap[at] = heap[child]
        at = child
    heap[at] = key


@inner
def next_finish_step(fleet: Fleet, engine: int) -> int:
    """The decode step at which the next sequence finishes; the heap must not be empty."""
    return fleet.finishing[engine, 0] >> SLOT_BITS


@inner
def pop_finishing(fleet: Fleet, engine: int, count: int) -> int:
    """The slot that finishes first, taken from the heap of `count` entries."""
    heap = fleet.finishing[engine]
    slot = heap[0] & ((1 << SLOT_BITS) - 1)
    heap[0] = heap[count - 1]
    if count > 1:
        _sift_down(fleet, engine, count - 1, 0)
    return slot


@inner
def pop_finished(fleet: Fleet, engine: int, count: int, step: int) -> int:
    """Take from the heap of `count` entries all that finish at `step`; returns how many they are.

    Their slots lie behind what is left of the heap, in order of admission: whose cached blocks grow old first must
    not hang on slots, which are dealt to all engines from one stack."""
    heap = fleet.finishing[engine]
    left = count
    while left > 0 and next_finish_step(fleet, engine) == step:
        slot = pop_finishing(fleet, engine, left)
        left -= 1
        place = left
        while place + 1 < count and fleet.sequences[heap[place + 1]].admission < fleet.sequences[slot].admission:
            heap[place] = heap[place + 1]
            place += 1
        heap[place] = slot
    return count - left


@inner
def remove_finishing(fleet: Fleet, engine: int, count: int, slot: int) -> None:
    """Take a preempted sequence out of the heap of `count` entries. O(count): preemptions are rare."""
    heap = fleet.finishing[engine]
    key = (fleet.sequences[slot].finish_step << SLOT_BITS) | slot
    at = 0
    while heap[at] != key:
        at += 1
    last = heap[count - 1]
    if at == count - 1:
        return
    heap[at] = last
    if at > 0 and heap[(at - 1) >> 1] > last:
        while at > 0 and heap[(at - 1) >> 1] > last:
            heap[at] = heap[(at - 1) >> 1]
            at = (at - 1) >> 1
        heap[at] = last
    else:
        _sift_down(fleet, engine, count - 1, at)
