"""The heap of finish steps against a sorted list, and the inbound list against a stable sort."""

from __future__ import annotations

import random

import pytest

from gridctl.engine.fleet import EngineSpec, build_fleet, dispatch
from gridctl.engine.queues import pop_finished, push_finishing, remove_finishing
from gridctl.engine.state import GPU, NIL, Fleet
from gridctl.kernels import compiled

BATCH = 40


@compiled
def push(fleet: Fleet, count: int, slot: int) -> None:
    """`push_finishing`, callable from Python."""
    push_finishing(fleet, 0, count, slot)


@compiled
def remove(fleet: Fleet, count: int, slot: int) -> None:
    """`remove_finishing`, callable from Python."""
    remove_finishing(fleet, 0, count, slot)


@compiled
def pop(fleet: Fleet, count: int, step: int) -> int:
    """`pop_finished`, callable from Python."""
    return pop_finished(fleet, 0, count, step)


def empty_fleet() -> Fleet:
    return build_fleet([EngineSpec(kind=GPU, max_num_seqs=BATCH, kv_blocks=100)], requests=BATCH, in_flight=BATCH)


@pytest.mark.parametrize("seed", range(20))
def test_the_heap_gives_back_what_a_sorted_list_would(seed: int) -> None:
    """A third of the sequences are preempted from anywhere in the heap; equal steps come out in order of admission."""
    generator = random.Random(seed)
    fleet = empty_fleet()
    inside: dict[int, tuple[int, int]] = {}
    slots = generator.sample(range(BATCH), BATCH)
    admissions = generator.sample(range(1000), BATCH)
    for slot, admission in zip(slots, admissions, strict=True):
        step = generator.randint(1, 12)
        fleet.sequences[slot].finish_step = step
        fleet.sequences[slot].admission = admission
        push(fleet, len(inside), slot)
        inside[slot] = (step, admission)
    for slot in generator.sample(range(BATCH), BATCH // 3):
        remove(fleet, len(inside), slot)
        del inside[slot]
    for step in range(1, 13):
        expected = sorted((slot for slot in inside if inside[slot][0] == step), key=lambda slot: inside[slot][1])
        count = len(inside)
        taken = pop(fleet, count, step)
        assert [int(slot) for slot in fleet.finishing[0, count - taken : count]] == expected
        for slot in expected:
            del inside[slot]
    assert not inside


def test_the_wire_is_sorted_by_arrival_and_keeps_the_order_of_equal_ones() -> None:
    generator = random.Random(3)
    fleet = empty_fleet()
    arrivals = [generator.randint(0, 9) for _ in range(BATCH)]
    for request, arrival in enumerate(arrivals):
        dispatch(fleet, 0, request, 0, 0, arrival, 1, 1, 0, 0, 1, 0)
    found, slot = [], fleet.engines[0].inbound_head
    while slot != NIL:
        found.append(int(fleet.sequences[slot].request))
        slot = fleet.sequences[slot].next
    assert found == sorted(range(BATCH), key=lambda request: arrivals[request])
